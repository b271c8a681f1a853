"""What documents hold."""

import re
from pathlib import Path


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language, which may stand in a list."""
    fences = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", path.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", block, flags=re.M)
            for indent, of, block in fences if of == language]  # fmt: skip
