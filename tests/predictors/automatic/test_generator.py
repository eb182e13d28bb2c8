"""The mask generator on a backend that only pretends; what it is given and gives back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

import qsam2_deploy
from qsam2_deploy.errors import EngineError, InputError, ModelFileError, VideoError
from qsam2_deploy.predictors import image_predictor
from qsam2_deploy.predictors.image_predictor import SAM2ImagePredictor
from qsam2_deploy.runtime import SAM2AutomaticMaskGenerator
from qsam2_deploy.spec import IMAGE_ENCODER, MASK_DECODER
from tests.predictors.fake_backend import FakeBackend

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
LOOSE: dict[str, Any] = {
    "points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0,
}  # fmt: skip
NAN = float("nan")


def test_every_way_to_give_a_model(backend: FakeBackend, monkeypatch: Any) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(
        image_predictor,
        "open_backend",
        lambda *args, **options: opened.append((*args, options)) or backend,
    )
    with SAM2AutomaticMaskGenerator("m.onnx", **LOOSE, backend="ort", threads=1) as generator:
        assert opened == [("m.onnx", "ort", 1, {"cache": None, "precision": "exact"})]
        found = generator.generate(Image.fromarray(IMAGE))
        assert generator.engine == "FakeBackend"
    assert {"segmentation", "bbox", "crop_box"} < set(found[0])
    with SAM2AutomaticMaskGenerator(backend, **LOOSE) as generator:
        assert generator.generate(IMAGE)
        assert backend.entered == 1
    assert backend.entered == 0
    assert qsam2_deploy.SAM2AutomaticMaskGenerator is SAM2AutomaticMaskGenerator


def test_an_image_predictor_keeps_its_image_and_its_engine(backend: FakeBackend) -> None:
    with SAM2ImagePredictor(backend) as predictor:
        predictor.set_image(IMAGE)
        before = predictor.get_image_embedding()
        with SAM2AutomaticMaskGenerator(predictor, **LOOSE) as generator:
            assert generator.predictor is predictor
            generator.generate(IMAGE[::-1])
        assert backend.entered == 1
        np.testing.assert_array_equal(predictor.get_image_embedding(), before)


def test_a_picture_is_encoded_once_and_points_are_decoded_in_batches(backend: FakeBackend) -> None:
    SAM2AutomaticMaskGenerator(backend, **LOOSE, points_per_batch=6).generate(IMAGE)
    assert backend.names() == [IMAGE_ENCODER, *[MASK_DECODER] * 3]
    points = [call["point_coords"] for name, call in backend.calls if name == MASK_DECODER]
    assert [len(part) for part in points] == [6, 6, 4]
    # The model's input is 32x32; the padding point is the official predictor's.
    np.testing.assert_allclose(points[0][:3], [[[4, 4], [0, 0]], [[12, 4], [0, 0]],
                                               [[20, 4], [0, 0]]])  # fmt: skip


def test_crops_are_encoded_once_each(backend: FakeBackend) -> None:
    options = {**LOOSE, "crop_n_layers": 1, "crop_n_points_downscale_factor": 4}
    SAM2AutomaticMaskGenerator(backend, **options).generate(IMAGE)
    assert backend.names() == [IMAGE_ENCODER, MASK_DECODER] * 5


def test_only_what_is_believed_in_is_enlarged(backend: FakeBackend, monkeypatch: Any) -> None:
    from qsam2_deploy.predictors.automatic import candidates

    enlarged = []
    bands = candidates.bilinear_bands
    monkeypatch.setattr(
        candidates, "bilinear_bands", lambda *args: enlarged.append(1) or bands(*args)
    )
    options = {**LOOSE, "pred_iou_thresh": 0.8, "points_per_side": 2}
    found = SAM2AutomaticMaskGenerator(backend, **options).generate(IMAGE)
    assert len(enlarged) == 4  # one of three candidates of each point has a quality of 0.9
    assert {item["predicted_iou"] for item in found} == {float(np.float32(0.9))}


def test_nothing_is_found(backend: FakeBackend) -> None:
    options = {**LOOSE, "pred_iou_thresh": 0.95, "crop_n_layers": 1}
    assert SAM2AutomaticMaskGenerator(backend, **options).generate(IMAGE) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"point_grids": [np.zeros((1, 2))]}, "exactly one of points_per_side and point_grids"),
        ({"points_per_side": None}, "but got neither"),
        ({"points_per_side": 0}, "points_per_side must be a whole number from 1 on, but got 0"),
        ({"points_per_side": 2.5}, "points_per_side must be a whole number"),
        ({"points_per_batch": 0}, "points_per_batch must be a whole number from 1"),
        ({"crop_n_layers": -1}, "crop_n_layers must be a whole number from 0 on"),
        ({"pred_iou_thresh": NAN}, "pred_iou_thresh must be a finite number, but got nan"),
        ({"stability_score_thresh": NAN}, "stability_score_thresh must be a finite number"),
        ({"stability_score_offset": float("inf")}, "stability_score_offset must be a finite"),
        ({"mask_threshold": "0"}, "mask_threshold must be a finite number, but got '0'"),
        ({"box_nms_thresh": None}, "box_nms_thresh must be a finite number"),
        ({"crop_nms_thresh": NAN}, "crop_nms_thresh must be a finite number"),
        ({"crop_overlap_ratio": 1.5}, "crop_overlap_ratio must be a number from 0 to 1"),
        ({"min_mask_region_area": -1}, "min_mask_region_area must be a finite number from 0 on"),
        ({"output_mode": "png"}, "output_mode must be one of binary_mask, .* but got 'png'"),
        ({"crop_n_points_downscale_factor": 0}, "crop_n_points_downscale_factor must be a whole"),
        ({"points_per_side": 3, "crop_n_layers": 2, "crop_n_points_downscale_factor": 2},
         "leaves no point for layer 2"),
    ],
)  # fmt: skip
def test_bad_arguments(backend: FakeBackend, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SAM2AutomaticMaskGenerator(backend, **options)


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ([np.array([[0.5, 1.2]])], r"point_grids\[0\] must hold shares .* from 0 to 1"),
        ([np.array([[NAN, 0.5]])], "must hold shares"),
        ([np.zeros((0, 2))], "with at least one point"),
        ([np.zeros((3, 3))], r"must have shape \[N, 2\] .* but got \[3, 3\]"),
        ([[["a", "b"]]], "must be an array of numbers"),
        (np.zeros((4, 2)), "must be a list with an array"),
        ([], "point_grids must have 1 entries"),
    ],
)
def test_bad_points(backend: FakeBackend, grids: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SAM2AutomaticMaskGenerator(backend, points_per_side=None, point_grids=grids)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((0, 10, 3), np.uint8), id="no pixels"),
        pytest.param(IMAGE[..., 0], id="grey"),
        pytest.param(IMAGE / np.float32(255), id="float"),
        pytest.param("photo.jpg", id="path"),
    ],
)
def test_bad_pictures(backend: FakeBackend, image: Any) -> None:
    with pytest.raises(VideoError, match=r"the image must be a uint8"):
        SAM2AutomaticMaskGenerator(backend, **LOOSE).generate(image)
    assert backend.calls == []


def test_a_picture_that_is_too_small_for_crops(backend: FakeBackend) -> None:
    generator = SAM2AutomaticMaskGenerator(backend, points_per_side=2, crop_n_layers=3)
    with pytest.raises(InputError, match="3x2 pixels is too small for 3 layers"):
        generator.generate(IMAGE[:2, :3])


def test_an_attribute_is_checked_when_it_is_used(backend: FakeBackend) -> None:
    generator = SAM2AutomaticMaskGenerator(backend, **LOOSE)
    generator.pred_iou_thresh = NAN
    with pytest.raises(InputError, match="pred_iou_thresh"):
        generator.generate(IMAGE)


def test_what_is_no_model(tmp_path: Any) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("not a model")
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        SAM2AutomaticMaskGenerator(path)
    with pytest.raises(InputError, match="a backend, or a SAM2ImagePredictor, but got dict"):
        SAM2AutomaticMaskGenerator({})  # type: ignore[arg-type]


def test_an_engine_that_breaks_down(backend: FakeBackend) -> None:
    generator = SAM2AutomaticMaskGenerator(backend, **LOOSE)
    backend.break_down(MASK_DECODER)
    with pytest.raises(EngineError):
        generator.generate(IMAGE)
    backend.heal()
    assert generator.generate(IMAGE)
