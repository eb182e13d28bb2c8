"""Each exported component against the upstream modules that it replaces, on the same weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.protocol import Backend
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.architecture import OFFICIAL_NAMES, official_config
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from tests.support.official_components import OFFICIAL_COMPONENTS, real_rotation
from tests.support.weights import load_written, small_config, write_checkpoint

TOLERANCE = 5e-5
"""Largest difference allowed, as a share of the reference's range."""


@dataclass
class Pair:
    """Upstream's model and our backend with the same weights."""

    model: Any
    backend: Backend

    @property
    def size(self) -> int:
        return self.backend.spec.feature_size

    def upstream(self, component: str, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return OFFICIAL_COMPONENTS[component](self.model, self.backend.spec)(*inputs)

    def run(self, component: str, **inputs: Any) -> dict[str, npt.NDArray[Any]]:
        arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        return self.backend.run(component, arrays)


def make_pair(
    folder: Path, config: dict[str, Any], image_size: int | None = None
) -> Iterator[Pair]:
    checkpoint = folder / "model.pt"
    write_checkpoint(checkpoint, config)
    loaded = load_checkpoint(checkpoint, config=config, image_size=image_size)
    onnx_from_checkpoint(loaded, folder / "model.onnx")
    with open_backend(folder / "model.onnx", "ort", threads=2) as backend, torch.inference_mode():
        yield Pair(loaded.model, backend)


@pytest.fixture(scope="module", params=["2.1", "2.0"])
def pair(request, tmp_path_factory) -> Iterator[Pair]:
    config = small_config(version=request.param)
    yield from make_pair(tmp_path_factory.mktemp("pair"), config)


def assert_close(found: npt.NDArray[Any], expected: torch.Tensor) -> None:
    reference = expected.numpy()
    assert found.shape == reference.shape
    assert np.ptp(reference) > 0, "the reference is constant: the test would prove nothing"
    assert np.abs(found - reference).max() <= TOLERANCE * np.ptp(reference)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def check_image_encoder(pair: Pair) -> None:
    image = random(1, 3, pair.backend.spec.image_size, pair.backend.spec.image_size)
    found = pair.run("image_encoder", image=image)
    expected = pair.upstream("image_encoder", image)
    for name, reference in zip(("features", "high_res_0", "high_res_1"), expected, strict=True):
        assert_close(found[name], reference)


def check_memory_attention(pair: Pair, objects: int, frames: int, pointers: int) -> None:
    spec, h = pair.backend.spec, pair.size
    features = random(1, spec.d_model, h, h)
    memory = random(objects, frames, spec.memory_dim, h, h, seed=1)
    tpos = torch.arange(frames).flip(0) % spec.rules.num_maskmem
    vectors = random(objects, pointers, spec.d_model, seed=2)
    distance = (torch.arange(pointers).float() - 1) / 15
    found = pair.run(
        "memory_attention",
        features=features,
        memory=memory,
        memory_tpos=tpos,
        pointers=vectors,
        pointer_tpos=distance,
    )["conditioned"]
    inputs = (features, memory, tpos, vectors, distance)
    (expected,) = pair.upstream("memory_attention", *inputs)
    assert_close(found, expected)
    with real_rotation():
        (real,) = pair.upstream("memory_attention", *inputs)
    assert_close(real.numpy(), expected)


def check_mask_decoder(pair: Pair, objects: int, points: int, with_mask: bool) -> None:
    spec, h = pair.backend.spec, pair.size
    high_res = [
        random(1, spec.d_model // 8, 4 * h, 4 * h),
        random(1, spec.d_model // 4, 2 * h, 2 * h),
    ]
    conditioned, mask = random(objects, spec.d_model, h, h), 5 * random(objects, 1, 4 * h, 4 * h)
    coords = torch.rand(objects, points, 2) * spec.image_size
    labels = (torch.arange(objects * points).reshape(objects, points) % 5 - 1).int()
    found = pair.run(
        "mask_decoder",
        conditioned=conditioned,
        high_res_0=high_res[0],
        high_res_1=high_res[1],
        point_coords=coords,
        point_labels=labels,
        mask_input=mask,
        has_mask=np.full(objects, with_mask),
    )
    masks, ious, pointers, score = pair.upstream(
        "mask_decoder", conditioned, *high_res, coords, labels, mask, torch.tensor([with_mask])
    )
    assert_close(found["mask_logits"], masks)
    assert_close(found["ious"], ious)
    assert_close(found["pointers"], pointers)
    np.testing.assert_allclose(found["object_score"], score.numpy(), rtol=1e-4, atol=1e-4)


def check_memory_encoder(pair: Pair, scores: list[float], from_points: bool) -> None:
    spec, h, count = pair.backend.spec, pair.size, len(scores)
    features, logits = random(1, spec.d_model, h, h), 5 * random(count, 1, 4 * h, 4 * h)
    score = torch.tensor(scores)[:, None]
    found = pair.run(
        "memory_encoder",
        features=features,
        mask_logits=logits,
        from_points=np.full(count, from_points),
        object_score=score,
    )["memory"]
    flags = torch.full((count,), from_points)
    (expected,) = pair.upstream("memory_encoder", features, logits, flags, score)
    assert_close(found, expected)


def test_image_encoder(pair):
    check_image_encoder(pair)


@pytest.mark.parametrize(("objects", "frames", "pointers"), [(1, 1, 0), (1, 3, 2), (3, 7, 16)])
def test_memory_attention(pair, objects, frames, pointers):
    check_memory_attention(pair, objects, frames, pointers)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize(("objects", "points"), [(1, 2), (2, 5), (1, 0)])
def test_mask_decoder(pair, objects, points, with_mask):
    check_mask_decoder(pair, objects, points, with_mask)


@pytest.mark.parametrize("from_points", [False, True])
@pytest.mark.parametrize("scores", [[2.0], [2.0, -3.0]])
def test_memory_encoder(pair, scores, from_points):
    check_memory_encoder(pair, scores, from_points)


@pytest.mark.parametrize(("bias", "absent"), [(4.0, False), (-50.0, True)])
def test_absent_object_gets_its_pointer(tmp_path, bias, absent):
    """A negative score gives ``no_obj_ptr`` to every candidate, a positive one to none."""
    checkpoint = tmp_path / "model.pt"
    write_checkpoint(checkpoint, object_score_bias=bias)
    loaded = load_written(checkpoint)
    spec = onnx_from_checkpoint(loaded, tmp_path / "model.onnx")
    h = spec.feature_size
    with open_backend(tmp_path / "model.onnx", "ort", threads=2) as backend, torch.inference_mode():
        found = Pair(loaded.model, backend).run(
            "mask_decoder",
            conditioned=random(1, spec.d_model, h, h),
            high_res_0=random(1, spec.d_model // 8, 4 * h, 4 * h),
            high_res_1=random(1, spec.d_model // 4, 2 * h, 2 * h),
            point_coords=torch.zeros(1, 1, 2),
            point_labels=-torch.ones(1, 1).int(),
            mask_input=torch.zeros(1, 1, 4 * h, 4 * h),
            has_mask=np.array([False]),
        )
    assert (found["object_score"][0, 0] <= 0) == absent
    same = np.isclose(found["pointers"][0], spec.constants["no_obj_ptr"]).all(axis=-1)
    assert same.tolist() == [absent] * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL_NAMES)
def test_official_architectures(name, tmp_path):
    """All components of every official model; 512 pixels keep its windows and its padding."""
    for pair in make_pair(tmp_path, official_config(name), image_size=512):
        check_image_encoder(pair)
        check_memory_attention(pair, 2, 3, 5)
        check_mask_decoder(pair, 2, 3, with_mask=True)
        check_memory_encoder(pair, [1.0, -1.0], from_points=False)
