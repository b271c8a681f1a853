"""The notebook of docs/ runs from a search to predictions of new clips."""

import json
from pathlib import Path

import nbclient
import nbformat
import pandas as pd
import pytest

from tests.trees import plain_tree

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
# Bytes of all outputs: a notebook that is larger is a burden in a repository.
LARGEST = 200_000


def test_the_notebook_is_stored_without_outputs() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert all(not cell.get("outputs") for cell in content["cells"])


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = plain_tree(tmp_path, "features")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parent.parent), prepend=":")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    choices = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert choices.source.startswith("# None: the synthetic demo")
    choices.source = (
        f"DATA, WEIGHTS, NEW = {str(data)!r}, None, {str(data)!r}\n"
        "SPACE, TRIALS, STUDY = 'smoke', 3, 'notebook'"
    )
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [cell.get("outputs", []) for cell in notebook.cells]
    assert len(json.dumps(outputs)) < LARGEST
    text = json.dumps(outputs)
    for shown in ("StudyResults(notebook: 3 trials", "mean_pcc", "naive 0.", "filled"):
        assert shown in text
    table = pd.read_csv(tmp_path / "predictions.csv", index_col="clip_id")
    assert len(table) > 0
    assert table.drop(columns="filled").notna().all(axis=None)
