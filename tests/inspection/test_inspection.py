"""What an inspection says, against numbers that are computed in another way."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from qsam2_deploy._common import seal as _seal
from qsam2_deploy.engines.onnxruntime.cpu import session_from_lowered
from qsam2_deploy.errors import InputError, ModelFileError, VideoError
from qsam2_deploy.inspection.clipping import add_probes, clipped_inputs
from qsam2_deploy.inspection.layers import quantized_layers
from qsam2_deploy.inspection.report import Inspection, inspect_model
from qsam2_deploy.inspection.sizes import STEPS, file_sizes
from qsam2_deploy.inspection.table import format_layers, format_summary
from qsam2_deploy.lowering import lower_to_float
from qsam2_deploy.model_file.bundle import read_bundle, read_model
from qsam2_deploy.spec import COMPONENTS, QuantizationInfo
from tests.support.quantized_layers import graph_of, make_layer, run


@pytest.fixture(scope="module")
def quantized(quantized_path) -> Inspection:
    return inspect_model(quantized_path, show_progress=False)


@pytest.fixture
def frames(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


# ------------------------------------------------------------------ one layer
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_numbers_of_a_layer(bits):
    layer, x = make_layer("linear", bits)
    model = graph_of("linear", layer)
    form = layer.export_form()
    told = QuantizationInfo("all", bits, bits, 1, weights=1)
    [found] = quantized_layers(model, told)
    assert (found.name, found.component, found.operator) == ("c/layer", "c", "MatMul")
    assert (found.weight_bits, found.input_bits, found.widths) == (bits, bits, f"w{bits}a{bits}")
    assert (found.weight_grid, found.input_grid) == ("symmetric", "symmetric")
    assert found.weight_scale == (form.weight_scale.min(), form.weight_scale.max())
    assert found.input_scale == float(form.input_scale)
    codes = form.weight_codes
    ends = (codes == -(2 ** (bits - 1))) | (codes == 2 ** (bits - 1) - 1)
    assert found.weights_at_ends == ends.mean()
    assert (ends.mean() > 0) == (bits < 4), "the weights of this layer are uniform"
    assert found.packed_bytes == codes.size * {2: 2, 3: 4, 4: 4, 8: 8}[bits] // 8
    assert found.shape == (128, 48)
    assert x.shape[-1] == 128


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_clipped_values_are_counted_where_they_are(bits):
    layer, x = make_layer("linear", bits)
    x = x * 2
    model = graph_of("linear", layer)
    assert add_probes(model) == ["c/layer.input_scale"]
    onnx.checker.check_model(model, full_check=True)
    names = [output.name for output in model.graph.output]
    from qsam2_deploy.lowering import lower_to_float
    from qsam2_deploy.onnx_graph.tensors import copy_of

    plain = copy_of(model)
    lower_to_float(plain)
    import onnxruntime

    session = onnxruntime.InferenceSession(plain.SerializeToString())
    found = dict(zip(names, session.run(None, {"c/x": x.numpy()}), strict=True))
    codes = np.round(x.numpy() / layer.export_form().input_scale)
    outside = (codes < -(2 ** (bits - 1))) | (codes > 2 ** (bits - 1) - 1)
    assert 0 < outside.sum() < outside.size
    assert found["probe/0/outside"] == outside.sum()
    assert found["probe/0/total"] == outside.size
    np.testing.assert_array_equal(found["c/y"], run(_lowered(layer), x), "probes change nothing")


def _lowered(layer):
    from qsam2_deploy.lowering import lower_to_float

    model = graph_of("linear", layer)
    lower_to_float(model)
    return model


def test_a_weight_that_is_multiplied_with_nothing_is_named():
    model = graph_of("linear", make_layer("linear", 4)[0])
    for node in model.graph.node:
        if node.op_type == "MatMul":
            node.op_type = "Mod"
    with pytest.raises(ModelFileError, match=r"c/layer\.weight is multiplied with nothing"):
        quantized_layers(model, QuantizationInfo("all", 4, 4, 1, weights=1))


# ------------------------------------------------------------------ whole models
def test_every_weight_of_the_metadata_is_a_layer(quantized):
    told = quantized.spec.quantization
    assert told is not None
    assert len(quantized.layers) == told.weights > 50
    assert {report.layer.component for report in quantized.layers} == set(COMPONENTS)
    assert all(report.layer.widths == "w4a4" for report in quantized.layers)
    assert all(report.layer.input_scale for report in quantized.layers)
    assert all(report.multiply_adds > 0 for report in quantized.layers)


def test_bytes_add_up_to_the_file(quantized_path, quantized):
    sizes = quantized.sizes
    assert sum(sizes.parts.values()) == sizes.file == quantized_path.stat().st_size
    assert all(size > 0 for size in sizes.parts.values())
    packed = sum(report.layer.packed_bytes for report in quantized.layers)
    assert sizes.parts["weights in 4 bits"] == packed
    assert sizes.parts[STEPS] > 4 * len(quantized.layers)
    codes = sum(np.prod(report.layer.shape) for report in quantized.layers)
    assert codes < sizes.parameters < 1.2 * codes
    assert (sizes.float32, sizes.bfloat16) == (4 * sizes.parameters, 2 * sizes.parameters)


def test_a_float_model(model_path):
    found = inspect_model(model_path, show_progress=False)
    assert found.layers == ()
    assert found.total_work.quantized == 0
    assert found.total_work.all > 0
    assert found.total_work.share("onnxruntime") == 0
    sizes = file_sizes(read_model(model_path))
    assert sizes == found.sizes
    assert set(sizes.parts) & {STEPS} == set()
    assert "float model, no layer is quantized" in format_summary(found)
    with pytest.raises(InputError, match="is a float model"):
        inspect_model(model_path, data="x.mp4")


def test_inputs_are_measured_on_frames(quantized_path, frames):
    found = inspect_model(quantized_path, data=frames, limit=3, threads=1, show_progress=False)
    shares = [report.inputs_clipped for report in found.layers]
    assert all(share is not None and 0 <= share <= 1 for share in shares)
    assert len(set(shares)) > 10
    assert found.data == str(frames)
    # A single image runs through the memory as well.
    single = clipped_inputs(read_bundle(quantized_path), frames / "0.png", threads=1)
    assert set(single) == {report.layer.input_scale_name for report in found.layers}


def test_bad_data(quantized_path, tmp_path, frames):
    with pytest.raises(VideoError):
        inspect_model(quantized_path, data=tmp_path / "none.mp4", show_progress=False)
    with pytest.raises(InputError, match="frames must be at least 1, but got 0"):
        inspect_model(quantized_path, data=frames, limit=0, show_progress=False)


def test_json_has_what_the_objects_have(quantized):
    data = json.loads(json.dumps(quantized.to_json()))
    assert data["sha256"] == quantized.digest
    assert len(data["layers"]) == len(quantized.layers)
    first, report = data["layers"][0], quantized.layers[0]
    assert first["name"] == report.layer.name
    assert first["weight_scale"] == {
        "min": report.layer.weight_scale[0],
        "max": report.layer.weight_scale[1],
    }
    assert first["integer_share"] == {"onnxruntime": 1.0} | {
        name: first["integer_share"][name] for name in first["integer_share"]
    }
    total = sum(part["multiply_adds"] for part in data["components"].values())
    assert data["total"]["multiply_adds"] == total == quantized.total_work.all


def test_tables(quantized):
    summary = format_summary(quantized)
    assert "W4A4 by lsc in the scope all" in summary
    assert "clipped inputs: not measured; give --data" in summary
    share = quantized.total_work.quantized_share("onnxruntime")
    assert share is not None
    [line] = [text for text in summary.splitlines() if text.startswith("  whole model")]
    assert f"{share:.2%}" in line
    lines = format_layers(quantized).splitlines()
    assert len(lines) == 1 + len(COMPONENTS) + len(quantized.layers)
    assert max(map(len, lines)) < 180
    floats = [r.layer.name for r in quantized.layers if r.integer_share["onnxruntime"] == 0]
    assert floats
    marked = [line.split()[0] for line in lines if line.endswith("float")]
    if quantized.installed == ("onnxruntime",):
        assert marked == [name.partition("/")[2] for name in floats]


def test_an_invalid_graph_with_a_good_seal_is_refused(model_path, tmp_path):
    model = onnx.load(model_path)
    model.graph.node[0].op_type = "NoSuchOperator"
    body = model.SerializeToString()
    path = tmp_path / "invalid.onnx"
    path.write_bytes(body + _seal.seal(body))
    with pytest.raises(
        ModelFileError, match=r"invalid\.onnx is no model of qsam2-export: .*NoSuchOperator"
    ) as error:
        inspect_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bits", [2, 7])
def test_an_affine_input_and_a_midrise_weight_are_told(bits):
    layer, x = make_layer("linear", bits, weight_grid="midrise", input_grid="affine")
    model = graph_of("linear", layer)
    told = QuantizationInfo(
        "all", bits, bits, 1, weights=1, weight_grid="midrise", activation_grid="affine"
    )
    [found] = quantized_layers(model, told)
    form = layer.export_form()
    assert (found.weight_grid, found.input_grid) == ("midrise", "affine")
    assert found.weight_scale == (form.weight_scale.min(), form.weight_scale.max())
    assert found.input_scale == form.input_scale
    ends = (form.weight_codes == -(2 ** (bits - 1))) | (form.weight_codes == 2 ** (bits - 1) - 1)
    assert found.weights_at_ends == ends.mean()
    assert (ends.mean() > 0) == (bits == 2)
    add_probes(model)
    lower_to_float(model)
    session = session_from_lowered(model.SerializeToString(), "c", 1)
    outside, total = session.run(["probe/0/outside", "probe/0/total"], {"c/x": x.numpy()})
    codes = np.round(x.numpy() / form.input_scale) + form.input_zero_point
    clipped = (codes < -(2 ** (bits - 1))) | (codes > 2 ** (bits - 1) - 1)
    assert (outside, total) == (clipped.sum(), x.numel())
    assert 0.02 < clipped.mean() < 0.5
