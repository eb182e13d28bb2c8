"""The runtime's numpy building blocks against torch and the official predictor's code."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam2_base import SAM2Base
from sam2.utils.misc import load_video_frames_from_jpg_images
from torch.nn.functional import interpolate

from qsam2_deploy.spec import ModelSpec, TrackingRules
from qsam2_deploy.tracking.bfloat16 import from_bfloat16_bits, to_bfloat16_bits
from qsam2_deploy.tracking.postprocess import non_overlapping, select_mask, stability_score
from qsam2_deploy.tracking.preprocess import preprocess_frame, preprocess_image
from qsam2_deploy.tracking.resize import resize_bilinear, resize_bilinear_antialias

SIZES = [
    ((32, 32), (120, 214)),  # logits to a frame
    ((256, 256), (480, 854)),
    ((128, 128), (32, 32)),  # a mask prompt to the memory's size
    ((135, 240), (128, 128)),
    ((480, 854), (1024, 1024)),
    ((37, 53), (19, 101)),  # one axis shrinks, the other grows
    ((5, 5), (5, 3)),
    ((1, 1), (4, 6)),
    ((9, 11), (1, 1)),
]


def torch_resize(x: np.ndarray, size: tuple[int, int], antialias: bool) -> np.ndarray:
    batch = torch.from_numpy(x.reshape(-1, 1, *x.shape[-2:]))
    result = interpolate(
        batch, size=size, mode="bilinear", align_corners=False, antialias=antialias
    )
    return result.numpy().reshape(*x.shape[:-2], *size)


def our_resize(x: np.ndarray, size: tuple[int, int], antialias: bool) -> np.ndarray:
    return (resize_bilinear_antialias if antialias else resize_bilinear)(x, *size)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_resize_of_logits(size, new_size, antialias):
    x = 10 * np.random.default_rng(0).standard_normal((2, 1, *size)).astype(np.float32)
    expected = torch_resize(x, new_size, antialias)
    assert np.abs(our_resize(x, new_size, antialias) - expected).max() < 1e-6 * np.abs(x).max()


@pytest.mark.parametrize(("size", "new_size"), SIZES)
def test_binary_masks_cross_one_half_at_the_same_pixels(size, new_size):
    """But for sums that are one half up to their own rounding, whose order BLAS chooses."""
    rng = np.random.default_rng(1)
    blocks = rng.random((-(-size[0] // 6), -(-size[1] // 6))) < 0.5
    for mask in (np.kron(blocks, np.ones((6, 6)))[: size[0], : size[1]], rng.random(size) < 0.5):
        x = mask.astype(np.float32)
        expected, found = torch_resize(x, new_size, True), resize_bilinear_antialias(x, *new_size)
        apart = (found >= 0.5) != (expected >= 0.5)
        assert np.abs(expected[apart] - 0.5).max(initial=0) <= 4 * np.finfo(np.float32).eps
        assert (found != expected)[apart].all()
        assert apart.mean() <= 1e-3


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("size", "new_size"), [(256, 1920), (1920, 256), (1080, 1024), (53, 101)])
def test_resize_weights_are_those_of_torch_to_the_bit(size, new_size, antialias):
    units = np.eye(size, dtype=np.float32)[:, None, None]
    expected = torch_resize(units, (1, new_size), antialias)
    np.testing.assert_array_equal(our_resize(units, (1, new_size), antialias), expected)


def test_bfloat16_rounding():
    bits = np.random.default_rng(2).integers(0, 1 << 32, 1 << 18, dtype=np.uint32)
    ties = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    x = np.concatenate([bits, ties]).view(np.float32)
    # Some processors flush subnormal numbers here, which torch does not promise either way.
    x = np.where(np.abs(x) < np.finfo(np.float32).tiny, np.float32(0), x)
    expected = torch.from_numpy(x).to(torch.bfloat16)
    finite = ~np.isnan(x)
    expected_bits = expected.view(torch.uint16).numpy()
    np.testing.assert_array_equal(to_bfloat16_bits(x)[finite], expected_bits[finite])
    widened = from_bfloat16_bits(to_bfloat16_bits(x))
    np.testing.assert_array_equal(widened, expected.float().numpy())  # NaN equals NaN here


@pytest.mark.parametrize("size", [(96, 170), (64, 64), (33, 20)])
def test_video_frame_equals_the_official_loader_to_the_bit(tmp_path, size):
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.jpg", quality=95)
    expected, height, width = load_video_frames_from_jpg_images(
        str(tmp_path), image_size=64, offload_video_to_cpu=True
    )
    assert (height, width) == size
    with Image.open(tmp_path / "0.jpg") as image:
        frame = np.asarray(image)
    result = preprocess_frame(frame, ModelSpec(name="test", image_size=64))
    np.testing.assert_array_equal(result, expected.numpy())


@pytest.mark.parametrize("size", [(96, 170), (64, 64), (33, 20)])
def test_still_image_equals_the_official_transform(size):
    pixels = np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8)
    spec = ModelSpec(name="test", image_size=64)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div(255)[None]
    expected = interpolate(tensor, size=(64, 64), mode="bilinear", antialias=True)
    expected -= torch.tensor(spec.mean)[:, None, None]
    expected /= torch.tensor(spec.std)[:, None, None]
    np.testing.assert_allclose(preprocess_image(pixels, spec), expected.numpy(), atol=2e-6)


def test_stability_score():
    rng = np.random.default_rng(5)
    logits = (rng.standard_normal((2, 3, 16, 16)) * 0.1).astype(np.float32)
    logits[0, 0] = -5
    decoder = SimpleNamespace(dynamic_multimask_stability_delta=0.05)
    scores = MaskDecoder._get_stability_scores(decoder, torch.from_numpy(logits))
    expected = scores.numpy()
    np.testing.assert_array_equal(stability_score(logits, 0.05), expected)
    assert len(np.unique(expected)) == 6


@pytest.mark.parametrize("objects", [1, 3])
def test_non_overlapping(objects):
    logits = 20 * np.random.default_rng(6).standard_normal((objects, 1, 9, 7)).astype(np.float32)
    logits[:, 0, 0, 0] = 2.0  # a tie
    # The method reads nothing of the model.
    expected = SAM2Base._apply_non_overlapping_constraints(None, torch.from_numpy(logits))
    np.testing.assert_array_equal(non_overlapping(logits), expected.numpy())


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("fallback", [True, False])
def test_select_mask_follows_the_official_decoder(multimask, fallback):
    rng = np.random.default_rng(7)
    logits = rng.standard_normal((40, 4, 8, 8)).astype(np.float32)
    logits[::2] *= 100  # at least every other object is stable
    ious = rng.random((40, 4)).astype(np.float32)
    tokens = rng.standard_normal((40, 4, 5)).astype(np.float32)
    masks, scores, chosen = official_choice(logits, ious, tokens, multimask, fallback)
    rules = TrackingRules(
        dynamic_multimask_via_stability=fallback, dynamic_multimask_stability_thresh=0.95
    )
    for i in range(40):
        mask, iou, pointer = select_mask(
            logits[i], ious[i], tokens[i], 1.0, multimask=multimask, rules=rules
        )
        best = int(scores[i].argmax())
        np.testing.assert_array_equal(mask, masks[i, best])
        assert iou == scores[i, best]
        np.testing.assert_array_equal(pointer, chosen[i, best])
    used_fallback = (scores[:, 0] != ious[:, 0]).sum()
    assert multimask or (0 < used_fallback < 20 if fallback else used_fallback == 0)


def official_choice(logits, ious, tokens, multimask, fallback):
    """Run upstream ``MaskDecoder.forward`` on given candidates instead of a network."""
    outputs = [torch.from_numpy(x) for x in (logits, ious, tokens)]
    decoder = SimpleNamespace(
        predict_masks=lambda **_: (*outputs, None),
        dynamic_multimask_via_stability=fallback,
        dynamic_multimask_stability_delta=0.05,
        dynamic_multimask_stability_thresh=0.95,
        use_multimask_token_for_obj_ptr=True,
        training=False,
    )
    for name in ("_dynamic_multimask_via_stability", "_get_stability_scores"):
        setattr(decoder, name, partial(getattr(MaskDecoder, name), decoder))
    masks, scores, chosen, _ = MaskDecoder.forward(
        decoder, None, None, None, None, multimask_output=multimask, repeat_image=False
    )
    return masks.numpy(), scores.numpy(), chosen.numpy()
