from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import ModelFileError, PromptError, VideoError
from qsam2_deploy.predictors import image_predictor
from qsam2_deploy.predictors.image_predictor import SAM2ImagePredictor
from qsam2_deploy.spec import IMAGE_ENCODER, MASK_DECODER, ModelSpec
from qsam2_deploy.tracking.preprocess import preprocess_image
from qsam2_deploy.tracking.resize import resize_bilinear
from tests.predictors.fake_backend import FakeBackend, check_arrays

S, C = 64, 32
NO_MEM_EMBED = np.linspace(-1, 1, C, dtype=np.float32)
SPEC = ModelSpec(name="fake", image_size=S, d_model=C, constants={"no_mem_embed": NO_MEM_EMBED})
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


class RandomBackend(FakeBackend):
    """Gives reproducible random outputs."""

    def __init__(self, spec: ModelSpec = SPEC) -> None:
        super().__init__(spec)
        self.mask_logits: np.ndarray | None = None

    def run(self, component: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        spec = self.spec.component(component)
        sizes = check_arrays(spec.inputs, inputs, {})
        assert all(value.flags.c_contiguous for value in inputs.values())
        self.calls.append((component, dict(inputs)))
        rng = np.random.default_rng(len(self.calls))
        outputs = {
            tensor.name: 20
            * rng.standard_normal([sizes.get(d, d) for d in tensor.shape]).astype(np.float32)
            for tensor in spec.outputs
        }
        if component == MASK_DECODER and self.mask_logits is not None:
            outputs["mask_logits"] = self.mask_logits
        return outputs

    @property
    def prompted(self) -> dict[str, np.ndarray]:
        """Inputs of the mask decoder's last run."""
        component, inputs = self.calls[-1]
        assert component == MASK_DECODER
        return inputs


@pytest.fixture
def backend() -> RandomBackend:
    return RandomBackend()


@pytest.fixture
def predictor(backend) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(backend)
    predictor.set_image(IMAGE)
    return predictor


def test_encoder_input_and_embedding(predictor, backend):
    component, inputs = backend.calls[0]
    assert component == IMAGE_ENCODER
    np.testing.assert_array_equal(inputs["image"], preprocess_image(IMAGE, SPEC))
    features = RandomBackend().run(IMAGE_ENCODER, inputs)["features"]
    expected = features + NO_MEM_EMBED[None, :, None, None]
    np.testing.assert_array_equal(predictor.get_image_embedding(), expected)


def test_points_are_scaled_and_padded(predictor, backend):
    predictor.predict([[25, 10], [50, 40]], [1, 0])
    np.testing.assert_allclose(backend.prompted["point_coords"], [[[32, 16], [64, 64], [0, 0]]])
    np.testing.assert_array_equal(backend.prompted["point_labels"], [[1, 0, -1]])
    assert not backend.prompted["has_mask"].any()
    assert not backend.prompted["mask_input"].any()


def test_shares_instead_of_pixels(predictor, backend):
    predictor.predict([[0.5, 0.25]], [1], normalize_coords=False)
    np.testing.assert_allclose(backend.prompted["point_coords"][0, 0], [32, 16])


def test_box_comes_before_points(predictor, backend):
    predictor.predict([[25, 20]], [1], box=[0, 0, 50, 40])
    np.testing.assert_allclose(
        backend.prompted["point_coords"], [[[0, 0], [64, 64], [32, 32], [0, 0]]]
    )
    np.testing.assert_array_equal(backend.prompted["point_labels"], [[2, 3, 1, -1]])


def test_mask_alone_has_no_points_at_all(predictor, backend):
    mask = np.random.default_rng(1).standard_normal((1, S // 4, S // 4)).astype(np.float32)
    predictor.predict(mask_input=mask)
    assert backend.prompted["point_coords"].shape == (1, 0, 2)
    assert backend.prompted["point_labels"].shape == (1, 0)
    assert backend.prompted["has_mask"].tolist() == [True]
    np.testing.assert_array_equal(backend.prompted["mask_input"][0], mask)


def test_several_boxes_make_several_objects(predictor, backend):
    boxes = np.array([[0, 0, 10, 10], [5, 5, 25, 20], [1, 2, 3, 4]])
    mask = np.ones((1, S // 4, S // 4), np.float32)
    masks, ious, low_res = predictor.predict(box=boxes, mask_input=mask, multimask_output=False)
    assert (masks.shape, ious.shape, low_res.shape) == ((3, 1, 40, 50), (3, 1), (3, 1, 16, 16))
    assert backend.prompted["conditioned"].shape[0] == 3
    assert (backend.prompted["conditioned"] == predictor.get_image_embedding()).all()
    np.testing.assert_allclose(backend.prompted["point_coords"][1, 1], [32, 32])
    assert backend.prompted["has_mask"].tolist() == [True] * 3
    assert (backend.prompted["mask_input"] == 1).all()


def test_single_box_in_a_batch_is_squeezed(predictor):
    masks, ious, _ = predictor.predict(box=[[0, 0, 10, 10]])
    assert (masks.shape, ious.shape) == ((3, 40, 50), (3,))


def test_three_candidates(predictor, backend):
    logits = (50 * np.random.default_rng(2).standard_normal((1, 4, 16, 16))).astype(np.float32)
    backend.mask_logits = logits
    masks, ious, low_res = predictor.predict([[1, 1]], [1])
    np.testing.assert_array_equal(low_res, np.clip(logits[0, 1:], -32, 32))
    assert (np.abs(logits) > 32).any()
    full = resize_bilinear(logits[0, 1:], 40, 50)
    np.testing.assert_array_equal(masks, full > 0)
    assert (masks.dtype, ious.dtype, ious.shape) == (np.float32, np.float32, (3,))
    backend.mask_logits = logits
    again, _, _ = predictor.predict([[1, 1]], [1], return_logits=True)
    np.testing.assert_array_equal(again, full)


@pytest.mark.parametrize("stable", [True, False])
def test_one_candidate_falls_back_when_it_is_unstable(predictor, backend, stable):
    logits = np.stack([np.full((16, 16), v) for v in (3.0 if stable else 0.01, 11, 12, 13)])
    backend.mask_logits = logits[None].astype(np.float32)
    all_ious = RandomBackend()
    all_ious.calls = backend.calls[:1]
    _, ious, low_res = predictor.predict([[1, 1]], [1], multimask_output=False)
    outputs = all_ious.run(MASK_DECODER, backend.prompted)
    chosen = 0 if stable else 1 + int(outputs["ious"][0, 1:].argmax())
    assert low_res.shape == (1, 16, 16)
    np.testing.assert_array_equal(low_res[0], backend.mask_logits[0, chosen])
    np.testing.assert_array_equal(ious, outputs["ious"][0, chosen : chosen + 1])


def test_threshold_holes_and_specks(backend):
    logits = np.full((1, 4, 16, 16), 9, np.float32)
    logits[0, 1, 4, 4] = -5  # a hole
    logits[0, 2] = -9
    logits[0, 2, 8, 8] = 5  # a speck
    backend.mask_logits = logits
    predictor = SAM2ImagePredictor(
        backend, mask_threshold=1.0, max_hole_area=1.0, max_sprinkle_area=1.0
    )
    predictor.set_image(IMAGE[:16, :16])
    result, _, low_res = predictor.predict([[1, 1]], [1], return_logits=True)
    assert result[0, 4, 4] == 11
    assert result[1, 8, 8] == -9
    np.testing.assert_array_equal(low_res, logits[0, 1:])
    plain = SAM2ImagePredictor(backend, mask_threshold=6.0)
    plain.set_image(IMAGE[:16, :16])
    masks, _, _ = plain.predict([[1, 1]], [1])
    assert masks[0].sum() == 255
    assert masks[1].sum() == 0


def test_pillow_images(predictor, backend):
    predictor.set_image(Image.fromarray(IMAGE))
    np.testing.assert_array_equal(backend.calls[-1][1]["image"], backend.calls[0][1]["image"])
    predictor.set_image(Image.fromarray(IMAGE[..., 0]))
    grey = preprocess_image(np.repeat(IMAGE[..., :1], 3, axis=2), SPEC)
    np.testing.assert_array_equal(backend.calls[-1][1]["image"], grey)


def test_batch_of_images_of_different_sizes(predictor, backend):
    predictor.set_image_batch([IMAGE, IMAGE[:20]])
    assert predictor.get_image_embedding().shape == (2, C, 4, 4)
    masks, ious, low_res = predictor.predict_batch(
        [[[25, 10]], [[25, 10]]], [[1], [1]], box_batch=None
    )
    assert [m.shape for m in masks] == [(3, 40, 50), (3, 20, 50)]
    assert [len(x) for x in (masks, ious, low_res)] == [2, 2, 2]
    first, second = (inputs["point_coords"][0, 0] for _, inputs in backend.calls[-2:])
    np.testing.assert_allclose([first, second], [[32, 16], [32, 32]])
    assert (backend.prompted["conditioned"] == predictor.get_image_embedding()[1:]).all()


def test_reset_forgets_the_image(predictor):
    predictor.reset_predictor()
    with pytest.raises(PromptError, match="no image is set"):
        predictor.predict([[1, 1]], [1])
    with pytest.raises(PromptError, match="no image is set"):
        predictor.get_image_embedding()


def test_a_failed_image_leaves_none_set(predictor):
    with pytest.raises(VideoError, match="the image must be a uint8 RGB array"):
        predictor.set_image(IMAGE.astype(np.float32))
    with pytest.raises(PromptError, match="no image is set"):
        predictor.predict([[1, 1]], [1])


def test_predict_batch_needs_a_batch(predictor):
    with pytest.raises(PromptError, match="set_image_batch"):
        predictor.predict_batch([[[1, 1]]], [[1]])
    with pytest.raises(VideoError, match="must be a list"):
        predictor.set_image_batch(IMAGE)
    predictor.set_image_batch([IMAGE, IMAGE])
    with pytest.raises(PromptError, match=r"box_batch must have one entry .* 2 images, but got 1"):
        predictor.predict_batch(box_batch=[[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"point_coords": [[1, 1]]}, "point_coords was given without point_labels"),
        ({"point_labels": [1]}, "point_labels was given without point_coords"),
        ({"point_coords": [1, 1], "point_labels": [1]}, r"shape \[P, 2\] .* but got \[2\]"),
        ({"point_coords": [[1, 1]], "point_labels": [1, 0]}, r"shape \[1\].* but got \[2\]"),
        ({"point_coords": [[1, 1]], "point_labels": [7]}, "point_labels must be 1 .* but got 7"),
        ({"point_coords": [[1, 1]], "point_labels": [0.5]}, "but got 0.5"),
        ({"point_coords": [[np.nan, 1]], "point_labels": [1]}, "finite"),
        ({"point_coords": [["x", 1]], "point_labels": [1]}, "array of numbers"),
        ({"box": [1, 2, 3]}, r"box must have shape .* but got \[3\]"),
        ({"box": [[0, 0, 1, 1]] * 2, "point_coords": [[1, 1]], "point_labels": [1]}, "2 boxes"),
        ({"mask_input": np.zeros((1, 40, 50))}, r"\[1, 16, 16\] .* but got \[1, 40, 50\]"),
        ({"mask_input": np.zeros((2, 1, 16, 16)), "box": [0, 0, 1, 1]}, "each of the 1 objects"),
    ],
)
def test_bad_prompts(predictor, backend, prompt, message):
    with pytest.raises(PromptError, match=message):
        predictor.predict(**prompt)
    assert len(backend.calls) == 1


def test_model_without_the_constant():
    predictor = SAM2ImagePredictor(RandomBackend(ModelSpec(name="x", image_size=S, d_model=C)))
    with pytest.raises(ModelFileError, match="no_mem_embed"):
        predictor.set_image(IMAGE)


def test_engine_is_opened_when_needed_and_closed(monkeypatch, tmp_path):
    opened: list[tuple[object, ...]] = []
    backend = RandomBackend()
    monkeypatch.setattr(
        image_predictor,
        "open_backend",
        lambda *args, **options: opened.append((*args, options)) or backend,
    )
    path = tmp_path / "model.onnx"
    predictor = SAM2ImagePredictor(path, backend="ort", threads=3)
    assert opened == [(path, "ort", 3, {"cache": None, "precision": "exact"})]
    assert backend.entered == 0
    predictor.set_image(IMAGE)
    predictor.predict([[1, 1]], [1])
    assert backend.entered == 1
    predictor.close()
    predictor.close()
    assert backend.entered == 0
    with predictor:
        assert backend.entered == 1
        predictor.set_image(IMAGE)
    assert (backend.entered, len(opened)) == (0, 1)


def test_leaving_forgets_the_image(backend):
    with SAM2ImagePredictor(backend) as predictor:
        predictor.set_image(IMAGE)
    assert backend.entered == 0
    with pytest.raises(PromptError, match="no image is set"):
        predictor.predict([[1, 1]], [1])
