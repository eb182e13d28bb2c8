"""Engines run on host arrays, on one stream, and give everything back."""

from typing import Any

import numpy as np
import pytest

from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.tensorrt.engine_file import read_engine
from qsam2_deploy.engines.tensorrt.execution import EngineRunner
from qsam2_deploy.spec import COMPONENTS, MASK_DECODER, MEMORY_ATTENTION, MEMORY_ENCODER, ModelSpec
from qsam2_deploy.tracking.bfloat16 import from_bfloat16_bits, to_bfloat16_bits
from tests import cuda_double
from tests import tensorrt_double as doubles
from tests.support.functional_gpu import FunctionalGpu

SIZES = {"B": 2, "P": 3, "F": 2, "N": 4}


def random_inputs(spec: ModelSpec, component: str, **sizes: int) -> dict[str, Any]:
    """Return inputs of a component; dynamic sizes are those of SIZES but for ``sizes``."""
    rng, dims = np.random.default_rng(0), {**SIZES, **sizes}
    made = {}
    for tensor in spec.component(component).inputs:
        shape = tuple(dims[d] if isinstance(d, str) else d for d in tensor.shape)
        values = rng.normal(size=shape) if tensor.dtype == "float32" else rng.integers(0, 2, shape)
        made[tensor.name] = values.astype(tensor.dtype)
    return made


@pytest.fixture(scope="module")
def expected(model_path) -> dict[str, Any]:
    with OrtBackend(model_path, threads=1) as backend:
        found = {c: backend.run(c, random_inputs(backend.spec, c)) for c in COMPONENTS}
    # An engine rounds memories as the bank of the backends on the CPU does.
    memory = found[MEMORY_ENCODER]["memory"]
    found[MEMORY_ENCODER]["memory"] = from_bfloat16_bits(to_bfloat16_bits(memory))
    return found


@pytest.mark.parametrize("version", doubles.VERSIONS)
def test_results_are_those_of_the_model(version, model_path, tmp_path, expected):
    gpu = FunctionalGpu(version)
    engine = read_engine(gpu.build(model_path, tmp_path / "m.engine"))
    with EngineRunner.from_file(engine, library=gpu.library, runtime=gpu.runtime) as runner:
        for name in COMPONENTS:
            got = runner.run(name, random_inputs(engine.header.spec, name))
            assert expected[name].keys() <= got.keys()
            for tensor, value in expected[name].items():
                np.testing.assert_array_equal(got[tensor], value)
    gpu.check()


@pytest.mark.parametrize(
    ("version", "integrated"),
    [
        *((version, False) for version in cuda_double.VERSIONS),
        (cuda_double.VERSIONS[-1], True),
        *(
            pytest.param(version, True, marks=pytest.mark.slow)
            for version in cuda_double.VERSIONS[:-1]
        ),
    ],
)
def test_every_call_of_cuda_is_in_the_lists(version, integrated, model_path, tmp_path):
    gpu = FunctionalGpu(cuda=version, integrated=integrated)
    engine = read_engine(gpu.build(model_path, tmp_path / "m.engine"))
    inputs = random_inputs(engine.header.spec, MASK_DECODER)
    with EngineRunner.from_file(engine, library=gpu.library, runtime=gpu.runtime) as runner:
        assert runner.milliseconds(MASK_DECODER, inputs, repeats=3) > 0
        assert runner.cuda.integrated is integrated
    gpu.check()


def test_the_profile_is_the_most_specific_one(model_path, tmp_path):
    gpu = FunctionalGpu()
    engine = read_engine(gpu.build(model_path, tmp_path / "m.engine"))
    with EngineRunner.from_file(engine, library=gpu.library, runtime=gpu.runtime) as runner:
        attention = runner.components[MEMORY_ATTENTION]
        for sizes, profile in (({}, "warm_up"), ({"F": 7, "N": 16}, "steady")):
            inputs = random_inputs(engine.header.spec, MEMORY_ATTENTION, **sizes)
            shapes = {name: array.shape for name, array in inputs.items()}
            assert attention.context_for(shapes).profile == profile
        assert runner.run(
            MEMORY_ATTENTION, random_inputs(engine.header.spec, MEMORY_ATTENTION, N=0)
        )
    gpu.check()
