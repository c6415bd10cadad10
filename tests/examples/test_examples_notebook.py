"""The notebook runs from its first cell to its last, in an empty folder."""

import json

import pytest
from conftest import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

PATH = ROOT / "examples" / "digits_search.ipynb"


@pytest.mark.slow
def test_it_finds_draws_and_trains_a_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(PATH, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    shown = [out["data"] for out in outputs if out["output_type"] == "execute_result"]
    assert any("image/png" in data for data in shown)
    assert float(shown[-1]["text/plain"]) > 0.8
    assert (tmp_path / "cell.json").is_file()


def test_it_is_stored_without_outputs():
    cells = json.loads(PATH.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
