"""The image predictor on an exported model against upstream's modules in torch.

Upstream's own ``SAM2ImagePredictor`` needs torchvision, so its steps are written out here around
the real modules: ``forward_image``, ``sam_prompt_encoder`` and ``sam_mask_decoder``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.predictors.image_predictor import SAM2ImagePredictor
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from tests.support.external_data import DATA, needs_data
from tests.support.weights import write_checkpoint

HEIGHT, WIDTH = 90, 150
NANO = DATA / "checkpoints" / "nano128.pt"
PHOTO = DATA / "images" / "truck.jpg"


class Official:
    """Upstream's image predictor, of one image."""

    def __init__(self, model: Any, image: np.ndarray) -> None:
        self.model = model
        size = model.image_size
        x = torch.from_numpy(image).permute(2, 0, 1).contiguous().float().div(255)[None]
        x = interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
            [0.229, 0.224, 0.225]
        )[:, None, None]
        fpn = model.forward_image(x)["backbone_fpn"]
        self.high_res = fpn[:-1]
        self.embedding = fpn[-1] + model.no_mem_embed.reshape(1, -1, 1, 1)
        self.shape = image.shape[:2]

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = []
        if box is not None:
            corners = self._scaled(np.reshape(box, (-1, 2, 2)))
            parts.append((corners, torch.tensor([[2, 3]]).repeat(len(corners), 1)))
        if point_coords is not None:
            labels = torch.as_tensor(np.asarray(point_labels), dtype=torch.int32)
            coords = self._scaled(point_coords)
            parts.append((coords, labels) if coords.ndim == 3 else (coords[None], labels[None]))
        points = tuple(torch.cat(column, dim=1) for column in zip(*parts, strict=True)) or None
        masks = None if mask_input is None else torch.from_numpy(mask_input)[None]
        sparse, dense = self.model.sam_prompt_encoder(points=points, boxes=None, masks=masks)
        low_res, ious, _, _ = self.model.sam_mask_decoder(
            image_embeddings=self.embedding,
            image_pe=self.model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
            repeat_image=points is not None and len(points[0]) > 1,
            high_res_features=self.high_res,
        )
        logits = interpolate(low_res, self.shape, mode="bilinear", align_corners=False)
        low_res = low_res.clamp(-32, 32)
        return tuple(x.squeeze(0).numpy() for x in (logits, ious, low_res))

    def _scaled(self, coords: Any) -> torch.Tensor:
        height, width = self.shape
        pixels = torch.as_tensor(np.asarray(coords), dtype=torch.float32)
        return pixels / torch.tensor([width, height]) * self.model.image_size


def pixels(seed: int = 0) -> np.ndarray:
    """A smooth picture with edges, so that masks are not noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((WIDTH, HEIGHT)))


class Pair:
    """The same model on both sides, with the same image."""

    def __init__(self, checkpoint: Path, folder: Path, image: np.ndarray) -> None:
        torch.set_num_threads(1)
        config = checkpoint.with_suffix(".yaml")
        path = folder / "model.onnx"
        onnx_from_checkpoint(checkpoint, path, config=config)
        self.model = load_checkpoint(checkpoint, config=config).model
        self.ours = SAM2ImagePredictor(path, backend="ort", threads=1)
        self.image = image
        with torch.inference_mode():
            self.official = Official(self.model, image)
        self.ours.set_image(image)

    def compare(self, **prompt: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Check logits, qualities, low-resolution logits and masks; return the official ones."""
        with torch.inference_mode():
            expected = self.official.predict(**prompt)
        result = self.ours.predict(**prompt, return_logits=True)
        scale = np.ptp(expected[2])
        assert scale > 0.1
        for ours, official in zip(result, expected, strict=True):
            assert ours.shape == official.shape
            assert ours.dtype == np.float32
        assert np.abs(result[0] - expected[0]).max() < 1e-3 * np.ptp(expected[0])
        assert np.abs(result[1] - expected[1]).max() < 1e-4
        assert np.abs(result[2] - expected[2]).max() < 1e-3 * scale
        masks = self.ours.predict(**prompt)[0]
        assert (masks == (expected[0] > 0)).mean() > 0.999
        return expected


@pytest.fixture(scope="module")
def random_pair(tmp_path_factory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("random")
    pair = Pair(write_checkpoint(folder / "random.pt"), folder, pixels())
    with pair.ours:
        yield pair


@pytest.fixture(scope="module")
def trained_pair(tmp_path_factory) -> Iterator[Pair]:
    with Image.open(PHOTO) as image:
        small = np.array(image.convert("RGB").resize((240, 160)))
    pair = Pair(NANO, tmp_path_factory.mktemp("trained"), small)
    with pair.ours:
        yield pair


PROMPTS = [
    pytest.param({"point_coords": [[70, 40]], "point_labels": [1]}, id="click"),
    pytest.param(
        {"point_coords": [[70, 40], [20, 60], [120, 15]], "point_labels": [1, 0, 1]}, id="clicks"
    ),
    pytest.param({"box": [30, 20, 110, 70]}, id="box"),
    pytest.param(
        {"box": [30, 20, 110, 70], "point_coords": [[60, 50]], "point_labels": [0]},
        id="box and click",
    ),
    pytest.param({"box": [[30, 20, 110, 70], [1, 2, 50, 60], [0, 0, 149, 89]]}, id="boxes"),
    pytest.param(
        {
            "box": [[30, 20, 110, 70], [1, 2, 50, 60]],
            "point_coords": [[[60, 50]], [[10, 10]]],
            "point_labels": [[0], [1]],
        },
        id="boxes and clicks",
    ),
    pytest.param({}, id="nothing"),
]


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_random_weights(random_pair, prompt, multimask):
    logits, _, _ = random_pair.compare(**prompt, multimask_output=multimask)
    assert logits.shape[-3:] == (3 if multimask else 1, HEIGHT, WIDTH)


@pytest.mark.parametrize("with_click", [True, False])
def test_earlier_logits_as_prompt(random_pair, with_click):
    click = {"point_coords": [[70, 40]], "point_labels": [1]}
    first = random_pair.compare(**click)
    more = click if with_click else {}
    second = random_pair.compare(**more, mask_input=first[2][:1], multimask_output=False)
    without = random_pair.ours.predict(**more, multimask_output=False, return_logits=True)
    assert np.abs(second[0] - without[0]).max() > 1e-2 * np.ptp(second[0])


def test_prompts_matter(random_pair):
    def logits(**prompt: Any) -> np.ndarray:
        return random_pair.ours.predict(**prompt, return_logits=True)[0]

    here = logits(point_coords=[[70, 40]], point_labels=[1])
    for other in (
        logits(point_coords=[[20, 80]], point_labels=[1]),
        logits(point_coords=[[70, 40]], point_labels=[0]),
        logits(box=[30, 20, 110, 70]),
    ):
        assert np.abs(here - other).max() > 1e-2 * np.ptp(here)


def test_embedding(random_pair):
    expected = random_pair.official.embedding.numpy()
    result = random_pair.ours.get_image_embedding()
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 1e-4 * np.ptp(expected)


def test_batch_of_images_equals_single_images(random_pair):
    images = [pixels(1), np.ascontiguousarray(pixels(2)[:60, :80])]
    points, labels = [[[70, 40]], [[20, 30]]], [[1], [1]]
    ours = SAM2ImagePredictor(random_pair.ours.model, backend="ort", threads=1)
    with ours:
        ours.set_image_batch(images)
        batch = ours.predict_batch(points, labels, return_logits=True)
    for i, image in enumerate(images):
        with torch.inference_mode():
            expected = Official(random_pair.model, image).predict(points[i], labels[i])
        for column, official in zip(batch, expected, strict=True):
            assert column[i].shape == official.shape
            assert np.abs(column[i] - official).max() < 1e-3 * max(1, np.ptp(official))


@needs_data(NANO, PHOTO)
@pytest.mark.parametrize("multimask", [True, False])
def test_trained_model(trained_pair, multimask):
    height, width = trained_pair.image.shape[:2]
    clicks = {"point_coords": [[width / 2, height / 2]], "point_labels": [1]}
    box = {"box": [width / 8, height / 8, width * 7 / 8, height * 7 / 8]}
    for prompt in (clicks, box):
        logits, _, _ = trained_pair.compare(**prompt, multimask_output=multimask)
        assert 0 < (logits > 0).mean() < 1
