"""JSON files that state their schema and carry a checksum of what they say."""

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.atomic import write_text
from harness.errors import InputError

#: The schemas of study.json, of ensemble.json, and of contents.json.
MANIFEST = "study 4"
ENSEMBLE = "ensemble 1"
CONTENTS = "contents 2"
_SCHEMA, _SEAL = "schema", "sha256"


def write_sealed(path: Path, schema: str, values: dict[str, Any]) -> None:
    """Writes values that JSON can hold, atomically; `schema` names their kind and version."""
    assert not {_SCHEMA, _SEAL} & set(values)  # these two are ours
    content = {_SCHEMA: schema, **values}
    write_text(path, json.dumps({**content, _SEAL: _seal(content)}, indent=2) + "\n")


def read_sealed(path: Path, schema: str) -> dict[str, Any]:
    """What `write_sealed` wrote, without schema and checksum.

    Raises:
        InputError: the file is missing, damaged, edited, or of another schema.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}; restore it") from error
    if not isinstance(content, dict) or content.get(_SCHEMA) != schema:
        found = content.get(_SCHEMA) if isinstance(content, dict) else None
        raise InputError(
            f"{path}: schema is {found!r}, this harness reads {schema!r}; it is left as it is: "
            "choose another name, or the version that wrote it"
        )
    seal = content.pop(_SEAL, None)
    if seal != _seal(content):
        raise InputError(f"{path}: it was damaged or edited, its checksum does not fit; restore it")
    del content[_SCHEMA]
    return content


def _seal(content: dict[str, Any]) -> str:
    # As it is read again: JSON knows no tuples.
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
