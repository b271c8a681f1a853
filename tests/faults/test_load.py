"""Small loads grow as large ones do; `python -m tests.faults.load` bears those of real size."""

from pathlib import Path

import pytest

from tests.faults.load import PARTS, QUICK


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_neither_cost_nor_memory_of_a_piece_grows(part: str, tmp_path: Path) -> None:
    for row in PARTS[part](tmp_path, QUICK):
        # Ratios of processor time within a run: what else runs on the machine is in both.
        assert not row.lost, row
