"""Our automatic mask generator against upstream's, on the demo model as it was trained.

Masks are asked to be equal with thresholds at which this small model, whose logits are low, keeps
some and drops many.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from qsam2_deploy.data.datasets.rle import decode_rle
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.predictors.image_predictor import SAM2ImagePredictor
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.runtime import SAM2AutomaticMaskGenerator
from tests.parity.clip import frame
from tests.parity.trained import CHECKPOINT, IMAGE_SIZE
from tests.support.drawn_clip import drawn_clip
from tests.support.external_data import DATA, needs_data
from tests.support.official_masks import connected_components, official_mask_generator

CLIP = CHECKPOINT.parent / "demo_clip.mp4"
PHOTOS = [DATA / "images" / name for name in ("truck.jpg", "cars.jpg", "groceries.jpg")]

KEPT = {
    "points_per_side": 8,
    "pred_iou_thresh": 0.3,
    "stability_score_thresh": 0.6,
    "stability_score_offset": 0.25,
}

Masks = list[dict[str, Any]]


class Both:
    """The same model on both sides."""

    def __init__(self, folder: Path, image_size: int) -> None:
        torch.set_num_threads(1)
        path = folder / "demo.onnx"
        loaded = load_checkpoint(CHECKPOINT, image_size=image_size)
        onnx_from_checkpoint(loaded, path, show_progress=False)
        self.model = loaded.model
        self.predictor = SAM2ImagePredictor(path, backend="ort", threads=1)

    def masks(self, image: np.ndarray, **options: Any) -> tuple[Masks, Masks]:
        """Return upstream's results and ours."""
        with torch.inference_mode():
            official = official_mask_generator(self.model, **options).generate(image)
        return official, SAM2AutomaticMaskGenerator(self.predictor, **options).generate(image)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(tmp_path_factory.mktemp("demo"), 256)
    with made.predictor:
        yield made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(tmp_path_factory.mktemp("small"), IMAGE_SIZE)
    with made.predictor:
        yield made


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    with open_frames(CLIP) as frames:
        fish = next(iter(frames))
    upright = np.asarray(Image.fromarray(frame(3)).resize((200, 301)))
    return {"fish": fish[::2, ::2].copy(), "upright": upright, "disc": drawn_clip(2, 150, 210)[1]}


def check(official: Masks, ours: Masks) -> None:
    """Ask for the same masks in the same order."""
    assert len(ours) == len(official)
    for found, expected in zip(ours, official, strict=True):
        assert found.keys() == expected.keys()
        assert found["segmentation"].dtype == np.bool_
        assert overlap(found["segmentation"], expected["segmentation"]) >= 0.999
        quality, stability = expected["predicted_iou"], expected["stability_score"]
        assert found["predicted_iou"] == pytest.approx(quality, abs=1e-4)
        # A share of pixels, one of which may lie on the threshold.
        one = max(1e-4, 2 / max(1, found["area"]))
        assert found["stability_score"] == pytest.approx(stability, abs=one, nan_ok=True)
        assert type(found["predicted_iou"]) is type(found["stability_score"]) is float
        assert type(found["area"]) is int
        assert found["area"] == found["segmentation"].sum()
        assert found["area"] == pytest.approx(expected["area"], rel=1e-3)
        assert np.abs(np.subtract(found["bbox"], expected["bbox"])).max() <= 1
        for name in ("point_coords", "crop_box"):
            assert found[name] == expected[name]


def overlap(ours: np.ndarray, official: np.ndarray) -> float:
    assert ours.shape == official.shape
    union = np.logical_or(ours, official).sum()
    return float(np.logical_and(ours, official).sum() / union) if union else 1.0


@pytest.mark.parametrize("picture", ["fish", "upright", "disc"])
def test_three_pictures(both: Both, pictures: dict[str, np.ndarray], picture: str) -> None:
    official, ours = both.masks(pictures[picture], **KEPT)
    check(official, ours)
    assert len(ours) > 1


SCENARIOS = [
    pytest.param({"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, 4, id="crops"),
    pytest.param({"crop_n_layers": 1, "points_per_side": 3, "crop_overlap_ratio": 0.2,
                  "crop_nms_thresh": 0.3, "pred_iou_thresh": 0.2}, 1, id="little overlap"),
    pytest.param({"use_m2m": True, "points_per_batch": 24, "points_per_side": 5}, 2, id="m2m"),
    pytest.param({"use_m2m": True, "pred_iou_thresh": 0.0, "points_per_side": 3}, 1, id="m2m, all"),
    pytest.param({"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}, 50, id="no filter"),
    pytest.param({"stability_score_thresh": 0.0, "box_nms_thresh": 0.3}, 4, id="few boxes"),
    pytest.param({"multimask_output": False, "points_per_batch": 7}, 2, id="one mask per point"),
    pytest.param({"mask_threshold": -0.3}, 2, id="lower threshold"),
    pytest.param({"mask_threshold": 0.3, "stability_score_offset": -0.25,
                  "stability_score_thresh": 1.01}, 2, id="negative offset"),
    pytest.param({"points_per_side": None, "point_grids": [
        np.array([[0.5, 0.5], [0.31, 0.72], [0.0, 1.0]]), np.array([[0.25, 0.5], [0.5, 0.75]])],
        "crop_n_layers": 1, "pred_iou_thresh": 0.1, "stability_score_thresh": 0.1}, 1,
        id="own points"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "at_least"), SCENARIOS)
def test_scenarios(
    small: Both, pictures: dict[str, np.ndarray], options: dict[str, Any], at_least: int
) -> None:
    official, ours = small.masks(pictures["fish"], **{**KEPT, **options})
    check(official, ours)
    assert len(ours) >= at_least


def test_small_regions(
    small: Both, pictures: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream fills holes with its CUDA extension, which is played here by OpenCV."""
    options = {**KEPT, "stability_score_thresh": 0.3}
    _, without = small.masks(pictures["fish"], **options)
    monkeypatch.setattr("sam2.utils.misc.get_connected_components", connected_components)
    official, ours = small.masks(pictures["fish"], **options, min_mask_region_area=25.0)
    check(official, ours)
    areas = [[found["area"] for found in masks] for masks in (ours, without)]
    assert areas[0] != areas[1], "nothing was filled or removed"


def test_run_lengths(small: Both, pictures: dict[str, np.ndarray]) -> None:
    image = pictures["disc"]
    official, ours = small.masks(image, **KEPT, output_mode="uncompressed_rle")
    texts = SAM2AutomaticMaskGenerator(small.predictor, **KEPT, output_mode="coco_rle")
    for expected, found, coded in zip(official, ours, texts.generate(image), strict=True):
        assert found["segmentation"]["size"] == expected["segmentation"]["size"]
        mask = decode_rle(found["segmentation"], "ours")
        assert overlap(mask, decode_rle(expected["segmentation"], "official")) >= 0.999
        assert isinstance(coded["segmentation"]["counts"], str)
        np.testing.assert_array_equal(decode_rle(coded["segmentation"], "ours"), mask)


@needs_data(*PHOTOS)
@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_photos(both: Both, path: Path) -> None:
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB").resize((480, 320)))
    options = {**KEPT, "stability_score_thresh": 0.4, "pred_iou_thresh": 0.1}
    official, ours = both.masks(pixels, **options)
    check(official, ours)
    assert len(ours) > 3
