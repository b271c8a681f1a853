"""Small loads are borne; `python -m tests.faults.load` bears those of real size.

What a piece costs in time is told by the program, which exits with 1 where it grows: no test
asserts a time. Memory that grew with the load would show in small ones, too.
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
    assert all(row.memory < 1.5 for row in rows), rows
