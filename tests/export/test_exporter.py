"""The exported file: valid, complete, sealed, small, and nothing left behind on failure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qsam2_deploy._common import seal as _seal
from qsam2_deploy.errors import CheckpointError, InputError, UnsupportedModelError
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.spec import COMPONENTS, SCHEMA_VERSION, SPEC_KEY, ModelSpec
from tests.support.weights import small_config, write_checkpoint


def config_of(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".yaml")


def test_file_is_valid_onnx(exported):
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8
    assert {(o.domain, o.version) for o in model.opset_import} == {("", 17)}


def test_every_name_carries_its_component(exported):
    graph = onnx.load(exported).graph
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        assert item.name.split("/")[0] in COMPONENTS
    names = [node.name for node in graph.node]
    assert len(names) == len(set(names))


def test_inputs_and_outputs_are_those_of_the_spec(exported):
    model = onnx.load(exported)
    spec = ModelSpec.from_json(model.metadata_props[0].value)
    found = {}
    for info in (*model.graph.input, *model.graph.output):
        tensor = info.type.tensor_type
        shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
        found[info.name] = (onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)
    expected = {
        f"{name}/{t.name}": (t.dtype, t.shape)
        for name in COMPONENTS
        for t in (*spec.component(name).inputs, *spec.component(name).outputs)
    }
    assert found == expected


def test_metadata_describes_the_model(exported, checkpoint):
    entries = {e.key: e.value for e in onnx.load(exported).metadata_props}
    spec = ModelSpec.from_json(entries[SPEC_KEY])
    model: Any = load_checkpoint(checkpoint, config=config_of(checkpoint)).model
    assert spec.image_size == model.image_size
    assert (spec.d_model, spec.memory_dim) == (model.hidden_dim, model.mem_dim)
    assert spec.rules.binarize_mask_from_pts_for_mem_enc
    assert spec.rules.dynamic_multimask_via_stability
    np.testing.assert_array_equal(
        spec.constants["no_mem_embed"], model.no_mem_embed.numpy().reshape(-1)
    )
    assert len(spec.source_sha256) == 64
    assert json.loads(entries[SPEC_KEY])["schema_version"] == SCHEMA_VERSION


def test_file_is_sealed(exported):
    data = exported.read_bytes()
    assert _seal.verify(data, "model") in data[-80:].decode("latin-1")


def test_little_is_stored_beside_the_weights(exported, checkpoint):
    """Constants that the engine can compute do not belong in the file."""
    model = load_checkpoint(checkpoint, config=config_of(checkpoint)).model
    weights = sum(p.numel() for p in model.parameters())
    stored = sum(int(np.prod(t.dims)) for t in onnx.load(exported).graph.initializer)
    assert stored < 1.05 * weights


def test_export_is_reproducible(exported, checkpoint, tmp_path):
    onnx_from_checkpoint(checkpoint, tmp_path / "again.onnx", config=config_of(checkpoint))
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_config_inside_the_checkpoint_needs_no_flag(tmp_path):
    from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint

    plain = write_checkpoint(tmp_path / "plain.pt")
    loaded = load_checkpoint(plain, config=config_of(plain))
    own = tmp_path / "own.pt"
    save_checkpoint(own, loaded.model.state_dict(), config=loaded.config)
    assert onnx_from_checkpoint(own, tmp_path / "own.onnx").name == "own"


def test_image_size_changes_the_input(checkpoint, tmp_path):
    path = tmp_path / "wide.onnx"
    spec = onnx_from_checkpoint(checkpoint, path, config=config_of(checkpoint), image_size=160)
    assert spec.image_size == 160
    assert spec.component("image_encoder").inputs[0].shape == (1, 3, 160, 160)


@pytest.mark.parametrize("size", [100, 0, -32])
def test_bad_image_size_is_refused(checkpoint, tmp_path, size):
    path = tmp_path / "bad.onnx"
    with pytest.raises(CheckpointError, match="multiple of 32"):
        onnx_from_checkpoint(checkpoint, path, config=config_of(checkpoint), image_size=size)
    assert list(tmp_path.iterdir()) == []


def test_unsupported_option_is_named(tmp_path):
    config = small_config()
    config["model"]["memory_attention"]["layer"]["pos_enc_at_attn"] = True
    path = write_checkpoint(tmp_path / "odd.pt", config)
    with pytest.raises(UnsupportedModelError, match="pos_enc_at_attn = True"):
        onnx_from_checkpoint(path, tmp_path / "odd.onnx", config=config_of(path))
    assert not (tmp_path / "odd.onnx").exists()


def test_missing_folder_is_one_sentence(checkpoint, tmp_path):
    path = tmp_path / "nowhere" / "model.onnx"
    with pytest.raises(InputError, match="does not exist"):
        onnx_from_checkpoint(checkpoint, path, config=config_of(checkpoint))


def test_older_file_survives_a_failure(checkpoint, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"precious")
    with pytest.raises(CheckpointError):
        onnx_from_checkpoint(checkpoint, path)  # the architecture is unknown without its YAML
    assert path.read_bytes() == b"precious"


def test_float_weights_are_those_of_the_checkpoint(exported, checkpoint):
    """A layer that no rewrite touches is stored bit for bit (transposed)."""
    model: Any = load_checkpoint(checkpoint, config=config_of(checkpoint)).model
    name = "trunk.blocks.0.mlp.layers.0.weight"
    stored = {t.name: t for t in onnx.load(exported).graph.initializer}
    found = numpy_helper.to_array(stored[f"image_encoder/{name}"])
    expected = model.image_encoder.get_parameter(name).numpy()
    np.testing.assert_array_equal(found.T, expected)
