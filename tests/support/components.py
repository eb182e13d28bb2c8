"""Inputs of the components, and all that a backend makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qsam2_deploy.engines.protocol import Backend
from qsam2_deploy.spec import COMPONENTS, ModelSpec


def random_inputs(spec: ModelSpec, component: str, points: int = 3) -> dict[str, Any]:
    """Return inputs of the right shapes for two objects, some points, three memories, pointers."""
    rng = np.random.default_rng(0)
    sizes = {"B": 2, "P": points, "F": 3, "N": 3}
    result: dict[str, Any] = {}
    for tensor in spec.component(component).inputs:
        shape = [sizes[d] if isinstance(d, str) else d for d in tensor.shape]
        if tensor.dtype == "float32":
            result[tensor.name] = rng.standard_normal(shape).astype(np.float32)
        elif tensor.dtype == "bool":
            result[tensor.name] = rng.random(shape) < 0.5
        else:
            low = -1 if tensor.name == "point_labels" else 0
            result[tensor.name] = rng.integers(low, 4, shape).astype(tensor.dtype)
    return result


def all_outputs(backend: Backend, components: Sequence[str] = COMPONENTS) -> dict[str, Any]:
    """Return the outputs of components on random inputs, by component and name."""
    return {
        f"{name}/{key}": value
        for name in components
        for key, value in backend.run(name, random_inputs(backend.spec, name)).items()
    }


def assert_equal(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that two of them are the same to the bit."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)
