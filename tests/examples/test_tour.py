"""The notebook of the five-minute tour runs as it stands."""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
TOUR = EXAMPLES / "tour.ipynb"


def outputs(notebook: dict) -> list[list[str]]:
    """Return the kinds of what each cell of code shows."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [
        ["image" if "image/jpeg" in o.get("data", {}) else o["output_type"] for o in c["outputs"]]
        for c in cells
    ]


def test_it_is_kept_with_its_results():
    shown = outputs(json.loads(TOUR.read_text()))
    assert sum(kinds == ["image"] for kinds in shown) == 1
    assert sum(kinds == ["stream", "image"] for kinds in shown) == 2
    assert TOUR.stat().st_size < 300_000


@pytest.mark.slow
def test_it_runs():
    pytest.importorskip("ipykernel", reason="pip install ipykernel")
    client = pytest.importorskip("nbclient", reason="pip install nbclient")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(TOUR, as_version=4)
    resources = {"metadata": {"path": str(EXAMPLES)}}
    client.NotebookClient(notebook, timeout=300, resources=resources).execute()
    kept = outputs(json.loads(TOUR.read_text()))
    assert [[k for k in kinds if k == "image"] for kinds in outputs(notebook)] == [
        [k for k in kinds if k == "image"] for kinds in kept
    ]
    text = "".join(o.get("text", "") for c in notebook["cells"] for o in c.get("outputs", []))
    iou = float(text.split("the float ones: ")[1].split(" ")[0])
    assert iou > 0.95
