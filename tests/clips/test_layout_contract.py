"""What holds for every layout, and for the one that the documents add."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.clips.layouts import LAYOUTS, Layout, LayoutOptions
from harness.errors import InputError

ROOT = Path(__file__).parents[2]
EVERY = [pytest.param(layout, id=name) for name, layout in LAYOUTS.items()]


def alternatives(form: str) -> list[str]:
    """`{a,b}/<id>.c` -> a/00001.c, b/00001.c."""
    parts = [part.split(",") for part in re.split(r"[{}]", re.sub("<[^>]+>", "00001", form))]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def make_folder(root: Path, layout: Layout) -> Path:
    """A folder of the form that the layout says it reads; the files are empty."""
    for name in itertools.chain.from_iterable(map(alternatives, layout.form)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.touch()
    return root


@pytest.mark.parametrize("layout", EVERY)
def test_only_the_layout_recognises_its_form(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, layout)
    assert [other.name for other in LAYOUTS.values() if other.recognise(folder)] == [layout.name]
    assert list(folder.rglob(layout.sign)), "the sign is part of the form"


@pytest.mark.parametrize("layout", EVERY)
def test_what_cannot_be_read_is_one_line_with_its_path(layout: Layout, tmp_path: Path) -> None:
    assert not layout.recognise(tmp_path)
    for folder in (tmp_path, make_folder(tmp_path / "empty", layout)):
        with pytest.raises(InputError) as refused:
            layout.read(folder, LayoutOptions())
        assert str(refused.value).startswith(str(folder))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("layout", EVERY)
def test_a_layout_is_found_in_the_file_of_its_name(layout: Layout) -> None:
    file = f"harness.clips.layouts.{layout.name.replace('-', '_')}"
    assert layout.recognise.__module__ == layout.read.__module__ == file


def test_the_readme_lists_every_layout() -> None:
    table = (ROOT / "README.md").read_text().partition("| name | files |")[2]
    rows = itertools.takewhile(lambda line: line.startswith("|"), table.splitlines()[1:])
    names = [re.match(r"\| `([^`]+)`", row) for row in rows if not row.startswith("|---")]
    assert [name and name[1] for name in names] == list(LAYOUTS)


def test_one_origin_is_named_once() -> None:
    """For this, layouts of one origin must follow each other."""
    origins = [name for name, _ in itertools.groupby(x.origin for x in LAYOUTS.values())]
    assert len(set(origins)) == len(origins)


def test_a_layout_is_one_file_and_one_entry(tmp_path: Path) -> None:
    """The example of docs/extending.md as a part of the package, a copy of it."""
    text = (ROOT / "docs" / "extending.md").read_text()
    example = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[0]
    file, use = re.split(r"^(?=# )", example, maxsplit=1, flags=re.MULTILINE)
    entered = "LAYOUTS[TWO_TABLES.name] = TWO_TABLES\n"
    assert entered in use
    shutil.copytree(Path(harness.__file__).parent, tmp_path / "harness", symlinks=True)
    layouts = tmp_path / "harness" / "clips" / "layouts"
    (layouts / "two_tables.py").write_text(file)
    replace(
        layouts / "__init__.py",
        ("PLAIN)", "PLAIN, TWO_TABLES)"),
        (
            "import PLAIN\n",
            "import PLAIN\nfrom harness.clips.layouts.two_tables import TWO_TABLES\n",
        ),
    )
    replace(tmp_path / "harness" / "choices.py", ('"plain"]', '"plain", "two-tables"]'))
    names = "from harness import choices\nassert tuple(LAYOUTS) == choices.LAYOUTS\n"
    use = "from pathlib import Path\n" + use.replace(entered, "") + names
    done = subprocess.run(
        [sys.executable, "-c", use], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "own: 1 of 8 clips of the labels have no file: c2" in done.stdout


def replace(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"{file}: {old}"
        text = text.replace(old, new)
    file.write_text(text)
