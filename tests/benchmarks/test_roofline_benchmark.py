"""The roofline: operations and bytes against hand counts, and the time that follows from them."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("torch", reason="the layers are quantized with torch")
pytest.importorskip("sam2", reason="the model is exported with sam2")

import torch

from benchmarks.speed import roofline
from benchmarks.speed._traffic import PRECISIONS, Work, work_of
from benchmarks.speed.roofline import DEVICES, Device, bank_bytes, bound
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.inspection.products import multiply_adds
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.spec import COMPONENTS, ModelSpec
from tests.support.graphs import model_of
from tests.support.quantized_layers import graph_of, make_layer
from tests.support.quantized_model import quantize_model
from tests.support.weights import load_written, small_config, write_checkpoint

SMALL = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a small model in the place of the official tiny one."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("roofline")
    checkpoint = write_checkpoint(folder / "small.pt", small_config(SMALL))
    loaded = load_written(checkpoint)
    quantized = quantize_model(loaded, 4, activation_bits=8)
    onnx_from_checkpoint(quantized, folder / "tiny_w4a8.onnx", show_progress=False)
    return folder


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int]],
    output: tuple[str, list[int]],
    **constants: list[int],
) -> onnx.ModelProto:
    """A float model, its constants given by their shapes."""
    weights = {name: np.ones(shape, np.float32) for name, shape in constants.items()}
    return model_of(nodes, inputs, dict([output]), weights, opset=19)


def _node(op_type: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name=output, **attributes)


def test_two_layers_with_something_between_them():
    nodes = [
        _node("MatMul", "x w1", "a"),
        _node("Relu", "a", "b"),
        _node("Reshape", "b shape", "c"),
        _node("MatMul", "c w2", "y"),
    ]
    model = _graph(nodes, {"x": [4, 256]}, ("y", [8, 64]), w1=[256, 128], w2=[64, 64])
    shape = numpy_helper.from_array(np.array([8, 64], np.int64), "shape")
    model.graph.initializer.append(shape)
    x, hidden, y = 2 * 4 * 256, 2 * 4 * 128, 2 * 8 * 64
    expected = Work(
        quantized=0,
        attention=0,
        other=2 * (4 * 256 * 128 + 8 * 64 * 64),
        weights=2 * (256 * 128 + 64 * 64),
        fused=x + 2 * hidden + y,
        unfused=x + hidden + 2 * hidden + hidden + y,
        scratch=max(x + hidden, 2 * hidden, hidden + y),
    )
    assert work_of(model, "fp16") == work_of(model, "int8") == work_of(model, "int4") == expected


def test_scores_of_an_attention_stay_on_the_chip_only_with_fusion():
    nodes = [
        _node("Transpose", "k", "kt", perm=[1, 0]),
        _node("MatMul", "q kt", "s"),
        _node("Mul", "s scale", "t"),
        _node("Softmax", "t", "p"),
        _node("MatMul", "p v", "y"),
    ]
    inputs = {"q": [10, 8], "k": [50, 8], "v": [50, 6]}
    model = _graph(nodes, inputs, ("y", [10, 6]), scale=[1])
    q, k, v, scores, y = 2 * 80, 2 * 400, 2 * 300, 2 * 500, 2 * 60
    found = work_of(model, "int8")
    assert (found.quantized, found.attention, found.other) == (0, 2 * 10 * 50 * (8 + 6), 0)
    assert found.fused == q + k + v + y
    assert found.unfused == 2 * k + (q + k + scores) + 4 * scores + (scores + v + y)
    assert found.scratch == q + k + v + k  # after the transposition; the scores need no room


@pytest.mark.parametrize(
    ("precision", "weight", "read"),
    [("fp16", 2 * 128 * 48, 2), ("int8", 128 * 48 + 2 * 48, 1), ("int4", 64 * 48 + 2 * 2 * 48, 2)],
)
def test_weights_and_inputs_of_a_quantized_layer(precision, weight, read):
    layer, _ = make_layer("linear", 4)
    found = work_of(graph_of("linear", layer), precision)
    flop, bias, x, y = 2 * 64 * 128 * 48, 2 * 48, 64 * 128, 2 * 64 * 48
    quantized = precision != "fp16"
    assert (found.quantized, found.other) == ((flop, 0) if quantized else (0, flop))
    input_grid = 3 * 2 if precision == "int8" else 0  # the limits of the clip, and the step
    assert found.weights == weight + bias + input_grid
    codes_written = x if precision == "int8" else 0
    host = 2 * x if precision == "int8" else 0  # the float input, which is rounded to codes
    assert found.fused == host + codes_written + read * x + y


def test_a_whole_model_keeps_its_products_at_every_width(folder):
    components = read_bundle(folder / "tiny_w4a8.onnx").components
    assert set(components) == set(COMPONENTS)
    for name, component in components.items():
        works = {precision: work_of(component, precision) for precision in PRECISIONS}
        total = 2 * sum(multiply_adds(component).values())
        assert all(w.quantized + w.attention + w.other == total for w in works.values())
        assert works["fp16"].quantized == 0
        assert works["int8"].quantized >= works["int4"].quantized
        assert works["int8"].quantized > 0.9 * (total - works["int8"].attention), name
        assert works["int8"].weights < works["fp16"].weights
        assert works["int8"].fused < works["fp16"].fused
        assert all(0 < w.scratch <= w.unfused and w.fused < w.unfused for w in works.values())


def test_a_frame_takes_the_sum_of_the_slower_of_both_limits():
    device = Device("d", fp16=10, int8=20, bandwidth=100, source="")
    work = Work(quantized=40 * 10**9, attention=10**10, other=10**10, weights=10**8,
                fused=10**8, unfused=10**9, scratch=0)  # fmt: skip
    idle = Work(quantized=0, attention=0, other=0, weights=10**8, fused=0, unfused=0, scratch=0)
    works = {"a": work, "b": idle}
    ideal = bound(works, "int8", device, fused=True)
    assert ideal.milliseconds == pytest.approx({"a": 2 + 2, "b": 1})
    assert ideal.limited_by == {"a": "operations", "b": "bytes"}
    assert ideal.fps == pytest.approx(200)
    assert bound(works, "int4", device, fused=True).milliseconds["a"] == pytest.approx(4 + 2)
    none = bound(works, "int8", device, fused=False)
    assert none.milliseconds["a"] == pytest.approx(11)
    assert none.limited_by["a"] == "bytes"


def test_a_full_memory_of_the_official_models_has_seven_frames_and_sixteen_pointers():
    assert bank_bytes(ModelSpec("m", 1024)) == 7 * 64 * 64 * 64 * 2 + 16 * 256 * 4


def test_every_figure_names_its_source():
    assert len({device.name for device in DEVICES}) == 4
    assert all("NVIDIA" in device.source for device in DEVICES)
    assert all(1.9 < device.int8 / device.fp16 < 2.1 for device in DEVICES)


def test_the_command_prints_and_writes_predictions(folder, tmp_path, capsys):
    out = tmp_path / "roofline.json"
    arguments = ["--models", "tiny", "--folder", str(folder), "--json", str(out)]
    assert roofline.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Predictions, not measurements" in printed
    results = json.loads(out.read_text())["results"]
    assert results["note"] == roofline.NOTE
    assert [row["precision"] for row in results["rows"]] == list(PRECISIONS)
    for row in results["rows"]:
        for device in DEVICES:
            found = row["predictions"][device.name]
            assert 0 < found["fps_no_fusion"] < found["fps_ideal_fusion"]
            assert str(found["fps_ideal_fusion"]) in printed
