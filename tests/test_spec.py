"""The seam between export and runtime: metadata and the shapes of the components."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from qsam2_deploy.errors import ModelFileError
from qsam2_deploy.spec import (
    COMPONENTS,
    SCHEMA_VERSION,
    ModelSpec,
    QuantizationInfo,
    TrackingRules,
    graph_name,
)

SPEC = ModelSpec(
    name="sam2.1_hiera_tiny",
    image_size=128,
    d_model=64,
    memory_dim=16,
    rules=TrackingRules(max_cond_frames_in_attn=4),
    constants={"no_obj_ptr": np.array([1.5, -0.1, np.pi], np.float32)},
    quantization=QuantizationInfo("encoder", 4, 8, 12, "lsc"),
    producer="qsam2-deploy 0.1.0",
    source_sha256="ab" * 32,
)


def _same(a: ModelSpec, b: ModelSpec) -> bool:
    constants = a.constants.keys() == b.constants.keys() and all(
        np.array_equal(a.constants[k], b.constants[k]) for k in a.constants
    )
    return constants and replace(a, constants={}) == replace(b, constants={})


def test_metadata_survives_the_round_trip():
    assert _same(ModelSpec.from_json(SPEC.to_json()), SPEC)
    plain = ModelSpec("x", 1024)
    assert _same(ModelSpec.from_json(plain.to_json()), plain)


@given(st_numpy.arrays(np.float32, st_numpy.array_shapes(max_dims=3), elements=st.floats(width=32)))
def test_constants_are_bit_exact(array):
    spec = replace(SPEC, constants={"x": array})
    read = ModelSpec.from_json(spec.to_json()).constants["x"]
    assert read.dtype == np.float32
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()


def test_unknown_entries_are_ignored():
    data = json.loads(SPEC.to_json())
    data["invented_later"] = 1
    data["rules"]["also_invented"] = True
    assert _same(ModelSpec.from_json(json.dumps(data)), SPEC)


def test_newer_schema_is_refused_with_advice():
    data = json.loads(SPEC.to_json()) | {"schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(ModelFileError, match="upgrade"):
        ModelSpec.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"schema_version": "x"}', '{"schema_version": 1}',
     SPEC.to_json().replace('"shape"', '"form"'), SPEC.to_json().replace('"name"', '"title"')],
)  # fmt: skip
def test_damaged_metadata_is_one_sentence(text):
    with pytest.raises(ModelFileError, match="damaged"):
        ModelSpec.from_json(text)


def test_every_component_has_inputs_and_outputs():
    assert SPEC.feature_size == 8
    assert SPEC.mask_size == 32
    for name in COMPONENTS:
        component = SPEC.component(name)
        assert component.name == name
        assert component.inputs
        assert component.outputs
        names = [tensor.name for tensor in component.inputs]
        assert len(set(names)) == len(names)


def test_outputs_fit_the_inputs_that_they_feed():
    tensors = {
        name: SPEC.component(name).inputs + SPEC.component(name).outputs for name in COMPONENTS
    }
    shapes: dict[str, set[tuple[int | str, ...]]] = {}
    for component in tensors.values():
        for tensor in component:
            shapes.setdefault(tensor.name, set()).add(tensor.shape)
    for shared in ("features", "high_res_0", "high_res_1", "conditioned", "object_score"):
        assert len(shapes[shared]) == 1, shared


def test_unknown_component_is_named():
    with pytest.raises(KeyError, match="backbone"):
        SPEC.component("backbone")


def test_graph_names_hold_the_component():
    assert graph_name("mask_decoder", "ious") == "mask_decoder/ious"
