"""What says exact on another processor and is not makes the comparison fail."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.portable import __main__ as portable
from tools.portable import probe, table
from tools.portable.processors import NATIVE, Processor

OTHER = Processor("Other", "whoever has it")


def computed(**changes: Any) -> dict[str, Any]:
    """Return what a probe writes."""
    mask = np.zeros((2, 40, 40), np.bool_)
    mask[:, 5:35, 5:35] = True
    found: dict[str, Any] = {
        "layers": ["conv-8", "linear-8"],
        "steps": [0.0, 1.0],
        "shares": [0.0, 0.0008],
        "digests": ["a", "b"],
        "masks float": mask,
        "about": "ort, exact; products: unsigned by signed",
        "seconds": 3.0,
    }
    return found | changes


@pytest.fixture
def result(tmp_path, monkeypatch):
    """Give a function from what was computed elsewhere to the result."""
    np.savez(tmp_path / "native.npz", **computed())
    args = argparse.Namespace(models=["float"], frames=2, again=False)

    def result(**changes: Any) -> portable.Result:
        def probed(*_: object) -> Path:
            if "error" in changes:
                raise RuntimeError(changes["error"])
            np.savez(tmp_path / "other.npz", **computed(**changes))
            return tmp_path / "other.npz"

        monkeypatch.setattr(portable, "_probed", probed)
        return portable._result(OTHER, "ort", tmp_path, args, tmp_path / "native.npz")

    return result


def shifted(pixels: int) -> np.ndarray:
    return np.roll(computed()["masks float"], pixels, axis=2)


@pytest.mark.parametrize(
    ("model", "products", "wanted"),
    [
        ("w2a2", "floats on the trained grids", portable.FEW_BITS_IOU),
        ("w2a2", "integers", portable.MIN_IOU),
        ("w8a8", "floats on the trained grids", portable.MIN_IOU),
    ],
)
def test_few_bits_in_floats_may_differ_more(model, products, wanted):
    found = portable.Result("Other", "openvino", about=f"products: {products}", frames_equal=True)
    found.iou[model] = wanted
    assert found.good
    found.iou[model] = wanted - 1e-3
    assert not found.good


def test_equal_is_good(result):
    found = result()
    assert found.good
    assert (found.worst_layer, found.steps, found.share) == ("linear-8", 1, 0.0008)
    assert found.iou == {"float": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"steps": [24.0, 1.0]},
        {"shares": [0.0, 0.002]},
        {"digests": ["a", "c"]},
        {"masks float": shifted(1)},
        {"error": "Other: killed"},
    ],
    ids=["a layer", "many values", "frames", "masks", "no result"],
)
def test_what_is_not_equal_is_not_good(result, change):
    assert not result(**change).good


def test_the_page_tells_all(result, tmp_path):
    results = [result(), result(digests=["a", "c"]), result(error="Other: killed")]
    page = tmp_path / "page.md"
    table.write_page(page, [OTHER], results, {"machine": "This One", "frames": 2})
    rows = [line for line in page.read_text().splitlines() if line.startswith("| Other | ONNX")]
    assert [row.count("|") for row in rows] == [8, 8, 8]
    assert "unsigned by signed | 1 step in 0.08% | the same | 1.0000 | yes |" in rows[0]
    assert "**others**" in rows[1]
    assert "Other: killed" in rows[2]


def test_a_program_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="native: ValueError: no luck"):
        NATIVE.run(["-c", "raise ValueError('no luck')"], tmp_path, timeout=60)


def test_a_layer_that_is_off_is_seen(tmp_path):
    pytest.importorskip("torch", reason="torch computes what was trained")
    from tests.support.quantized_layers import graph_of, make_layer
    from tools.portable import prepare

    (tmp_path / "layers").mkdir()
    layer, x = make_layer("linear", 8)
    expected = layer(x).detach().numpy()
    for name, wrong in (("a-right", 0), ("b-wrong", np.ptp(expected) / 50)):
        path = tmp_path / "layers" / name
        prepare._write(path, graph_of("linear", layer), {"c/x": x.numpy()}, expected + wrong)
    found = probe.layers(tmp_path, "ort")
    assert found["layers"] == ["a-right", "b-wrong"]
    assert found["steps"][0] <= 1 < found["steps"][1]
    assert found["shares"][0] <= 1e-3 < found["shares"][1]
