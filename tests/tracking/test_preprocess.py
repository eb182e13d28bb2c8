import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import VideoError
from qsam2_deploy.spec import ModelSpec
from qsam2_deploy.tracking.preprocess import preprocess_frame, preprocess_image

SPEC = ModelSpec(name="test", image_size=64)
BOTH = pytest.mark.parametrize("preprocess", [preprocess_frame, preprocess_image])


def pixels(height: int = 37, width: int = 90) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_frame_equals_the_plain_formula_to_the_bit():
    frame = pixels()
    resized = np.array(Image.fromarray(frame).resize((64, 64)))
    expected = (resized / 255.0).transpose(2, 0, 1).astype(np.float32)
    expected -= np.array(SPEC.mean, np.float32)[:, None, None]
    expected /= np.array(SPEC.std, np.float32)[:, None, None]
    np.testing.assert_array_equal(preprocess_frame(frame, SPEC)[0], expected)


@BOTH
def test_shape_type_and_layout(preprocess):
    result = preprocess(pixels(), SPEC)
    assert (result.shape, result.dtype) == ((1, 3, 64, 64), np.float32)
    assert result.flags.c_contiguous


@BOTH
def test_each_channel_has_its_own_mean_and_deviation(preprocess):
    frame = np.empty((10, 12, 3), np.uint8)
    frame[...] = (255, 0, 51)
    spec = ModelSpec(name="x", image_size=32, mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 0.1))
    result = preprocess(frame, spec)
    for channel, value in enumerate((1.0, -1.0, 0.0)):
        np.testing.assert_allclose(result[0, channel], value, atol=1e-6)


@BOTH
def test_non_contiguous_and_read_only_pixels(preprocess):
    frame = pixels()
    view = frame[:, ::-1, ::-1]
    view.flags.writeable = False
    np.testing.assert_array_equal(preprocess(view, SPEC), preprocess(view.copy(), SPEC))


@BOTH
def test_results_do_not_share_memory(preprocess):
    first = preprocess(pixels(), SPEC)
    kept = first.copy()
    preprocess(255 - pixels(), SPEC)
    np.testing.assert_array_equal(first, kept)


@BOTH
@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(preprocess, bad):
    with pytest.raises(VideoError, match=r"must be a uint8 RGB array .* but got"):
        preprocess(bad, SPEC)


@BOTH
def test_not_an_array(preprocess):
    with pytest.raises(VideoError, match="but got list"):
        preprocess([[1, 2, 3]], SPEC)
