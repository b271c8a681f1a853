"""Small loads are borne; `python -m tests.faults.load` bears those of real size.

What a piece costs is told by the program, which exits with 1 where it grows: no test asserts that.
"""

from pathlib import Path

import pytest

from tests.faults.load import PARTS, QUICK


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_small_load_is_borne(part: str, tmp_path: Path) -> None:
    rows = list(PARTS[part](tmp_path, QUICK))
    assert rows
    assert all(row.pieces > 0 and row.mib > 0 for row in rows), rows
