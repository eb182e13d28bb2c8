"""A backend without a network: cheap, deterministic, and strict about what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qsam2_deploy.errors import EngineError
from qsam2_deploy.spec import COMPONENTS, NUM_CANDIDATES, ModelSpec, TensorSpec, TrackingRules

Arrays = dict[str, npt.NDArray[Any]]

SIZE, WIDTH, MEMORY_WIDTH = 32, 32, 4


def fake_spec(**rules: Any) -> ModelSpec:
    """Return the metadata of a model of 32x32 pixels."""
    return ModelSpec(
        name="fake",
        image_size=SIZE,
        d_model=WIDTH,
        memory_dim=MEMORY_WIDTH,
        rules=TrackingRules(**rules),
        constants={
            "no_mem_embed": np.full(WIDTH, 0.5, np.float32),
            "no_obj_ptr": np.full(WIDTH, -3, np.float32),
            "mask_downsample_weight": np.full((4, 4), 1 / 16, np.float32),
            "mask_downsample_bias": np.zeros(1, np.float32),
        },
    )


class FakeBackend:
    """Obeys ``ModelSpec.component``: inputs and outputs are checked at every call.

    Every object's outputs depend on its own inputs alone, and are computed one object at a time,
    so that batches and single objects can be compared for equality.

    Attributes:
        calls: the component of each call, with its inputs.
        score: object score of all masks; a sequence gives one for each object of a batch.
    """

    def __init__(self, spec: ModelSpec | None = None) -> None:
        self.spec = spec or fake_spec()
        self.calls: list[tuple[str, Arrays]] = []
        self.entered = 0
        self.score: float | list[float] = 5.0
        self._faults: dict[tuple[str, str], tuple[float, int | None, int]] = {}
        self._broken: set[str] = set()

    def __enter__(self) -> FakeBackend:
        self.entered += 1
        return self

    def __exit__(self, *error: object) -> None:
        self.entered -= 1

    def poison(
        self,
        component: str,
        output: str,
        value: float = np.nan,
        row: int | None = None,
        after: int = 0,
    ) -> None:
        """Put ``value`` into one output of one or all objects, after so many good calls."""
        self._faults[component, output] = (value, row, after)

    def break_down(self, component: str) -> None:
        """Let a component fail as an engine does."""
        self._broken.add(component)

    def heal(self) -> None:
        """Take back all faults."""
        self._faults.clear()
        self._broken.clear()

    def names(self) -> list[str]:
        """Return the components that ran, in order."""
        return [name for name, _ in self.calls]

    def last(self, component: str) -> Arrays:
        """Return the inputs of the latest call of a component."""
        return next(inputs for name, inputs in reversed(self.calls) if name == component)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        if self.entered < 1:
            raise EngineError("the fake backend is closed")
        if component in self._broken:
            raise EngineError("the fake backend is broken")
        assert component in COMPONENTS
        expected = self.spec.component(component)
        sizes = check_arrays(expected.inputs, inputs, {})
        self.calls.append((component, {key: value.copy() for key, value in inputs.items()}))
        outputs: Arrays = getattr(self, f"_{component}")(**inputs)
        check_arrays(expected.outputs, outputs, sizes)
        self._spoil(component, outputs)
        return outputs

    def _spoil(self, component: str, outputs: Arrays) -> None:
        for (name, output), (value, row, after) in list(self._faults.items()):
            if name != component:
                continue
            if after > 0:
                self._faults[name, output] = (value, row, after - 1)
            elif row is None:
                outputs[output][..., -1] = value
            else:
                outputs[output][row, ..., -1] = value

    def _image_encoder(self, image: npt.NDArray[np.float32]) -> Arrays:
        levels = {}
        for name, channels, stride in (
            ("features", WIDTH, 16), ("high_res_0", WIDTH // 8, 4), ("high_res_1", WIDTH // 4, 8),
        ):  # fmt: skip
            side = SIZE // stride
            mean = image[0].reshape(3, side, stride, side, stride).mean((0, 2, 4))
            ramp = np.linspace(-1, 1, channels, dtype=np.float32)[:, None, None]
            levels[name] = np.ascontiguousarray((mean * ramp)[None], np.float32)
        return levels

    def _memory_attention(
        self,
        features: npt.NDArray[np.float32],
        memory: npt.NDArray[np.float32],
        memory_tpos: npt.NDArray[np.int64],
        pointers: npt.NDArray[np.float32],
        pointer_tpos: npt.NDArray[np.float32],
    ) -> Arrays:
        result = []
        for memories, tokens in zip(memory, pointers, strict=True):
            total = features[0].copy()
            for frame, code in zip(memories, memory_tpos, strict=True):
                total[:MEMORY_WIDTH] += frame / np.float32(2 + code)
            for token, time in zip(tokens, pointer_tpos, strict=True):
                total += (token * np.float32(0.1 + time))[:, None, None]
            result.append(np.tanh(total))
        return {"conditioned": np.stack(result)}

    def _mask_decoder(
        self,
        conditioned: npt.NDArray[np.float32],
        point_coords: npt.NDArray[np.float32],
        point_labels: npt.NDArray[np.int32],
        mask_input: npt.NDArray[np.float32],
        has_mask: npt.NDArray[np.bool_],
        **_: npt.NDArray[np.float32],
    ) -> Arrays:
        side = SIZE // 4
        y, x = np.mgrid[:side, :side].astype(np.float32) * 4 + 2
        masks = []
        for b, image in enumerate(conditioned):
            logits = np.kron(image.mean(0), np.ones((4, 4), np.float32)) * 8
            for (px, py), label in zip(point_coords[b], point_labels[b], strict=True):
                if label >= 0:
                    sign = np.float32(-1 if label == 0 else 1)
                    distance = (x - px) ** 2 + (y - py) ** 2
                    logits = logits + sign * 10 * np.exp(-distance / 50)
            if has_mask[b]:
                logits = logits + mask_input[b, 0] / 4
            masks.append(logits)
        single = np.stack(masks).astype(np.float32)
        shifts = np.arange(NUM_CANDIDATES, dtype=np.float32)
        logits = single[:, None] + shifts[None, :, None, None]
        count = len(single)
        scores = np.resize(np.asarray(self.score, np.float32), count)[:, None]
        means = np.stack([mask.mean() for mask in single]).astype(np.float32)
        pointers = np.tanh(means[:, None, None] + shifts[None, :, None] + np.zeros(WIDTH))
        ious = np.tile(np.float32([0.5, 0.6, 0.9, 0.7]), (count, 1))
        return {
            "mask_logits": logits,
            "ious": ious,
            "pointers": pointers.astype(np.float32),
            "object_score": scores,
        }

    def _memory_encoder(
        self,
        features: npt.NDArray[np.float32],
        mask_logits: npt.NDArray[np.float32],
        from_points: npt.NDArray[np.bool_],
        object_score: npt.NDArray[np.float32],
    ) -> Arrays:
        result = []
        for mask, hard, score in zip(mask_logits[:, 0], from_points, object_score, strict=True):
            values = (mask > 0).astype(np.float32) if hard else np.tanh(mask / 8)
            side = SIZE // 16
            small = values.reshape(side, 4, side, 4).mean((1, 3)) + (score[0] > 0)
            result.append(features[0, :MEMORY_WIDTH] + small)
        return {"memory": np.stack(result).astype(np.float32)}


def check_arrays(
    expected: tuple[TensorSpec, ...],
    arrays: Mapping[str, npt.NDArray[Any]],
    sizes: Mapping[str, int],
) -> dict[str, int]:
    """Assert names, dtypes and shapes; return the sizes that letters stand for."""
    known = dict(sizes)
    assert set(arrays) == {tensor.name for tensor in expected}
    for tensor in expected:
        value = arrays[tensor.name]
        assert value.dtype == tensor.dtype, (tensor.name, value.dtype)
        assert value.ndim == len(tensor.shape), (tensor.name, value.shape)
        wanted = tuple(
            known.setdefault(d, n) if isinstance(d, str) else d
            for d, n in zip(tensor.shape, value.shape, strict=True)
        )
        assert value.shape == wanted, (tensor.name, value.shape, wanted)
    return known
