"""A checkpoint in the official predictor and its exported model get the same scores."""

import functools
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch

from qsam2_deploy.data.datasets.davis import davis_sequences
from qsam2_deploy.data.datasets.image_set import image_set
from qsam2_deploy.data.datasets.sav import sav_sequences
from qsam2_deploy.errors import PromptError
from qsam2_deploy.evaluation.exported_model import ExportedModel
from qsam2_deploy.evaluation.prompts import first_prompts
from qsam2_deploy.evaluation.rules import DAVIS, IMAGES, SA_V
from qsam2_deploy.evaluation.scoring import evaluate
from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint
from qsam2_deploy.quant.checkpoints.official_predictor import OfficialModel
from tests.data.datasets import write_davis, write_image, write_sav
from tests.parity.clip import HEIGHT, WIDTH, frame
from tests.parity.trained import trained_model
from tests.support.external_data import DATA, needs_data

NANO = DATA / "checkpoints" / "nano128.pt"
FRAMES = 9
SLOWER = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a checkpoint of the trained model and its export."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    config, state = trained_model()
    checkpoint, model = folder / "model.pt", folder / "model.onnx"
    save_checkpoint(checkpoint, state, config=config)
    onnx_from_checkpoint(checkpoint, model, show_progress=False)
    return checkpoint, model


@pytest.fixture(scope="module")
def models(files):
    """Give a function from ``exclusive`` to both models, which stay open."""
    with ExitStack() as stack:

        @functools.cache
        def open_both(exclusive):
            official = OfficialModel(files[0], exclusive=exclusive, threads=1)
            exported = ExportedModel(files[1], exclusive=exclusive, backend="ort", threads=1)
            return stack.enter_context(official), stack.enter_context(exported)

        yield open_both


def labels(index):
    """Return the annotation of the clip's disk (1) and box (2)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    phase = 0.25 * index
    result = np.zeros((HEIGHT, WIDTH), np.uint8)
    result[(x - 50 - 18 * np.sin(phase)) ** 2 + (y - 54 - 3 * index % 20) ** 2 < 26**2] = 1
    box = (abs(x - 112 - 30 * np.sin(phase)) < 20) & (abs(y - 48 - 8 * np.sin(phase)) < 15)
    result[box] = 2
    return result


def overwrite_frames(folder):
    for index, path in enumerate(sorted(folder.iterdir())):
        write_image(path, frame(index * SLOWER))


@pytest.fixture(scope="module")
def davis(tmp_path_factory):
    root = tmp_path_factory.mktemp("davis")
    write_davis(root, {"clip": [labels(SLOWER * i) for i in range(FRAMES)]})
    overwrite_frames(root / "JPEGImages/480p/clip")
    return davis_sequences(root)


@pytest.fixture(scope="module")
def sav(tmp_path_factory):
    """Object 0 is there from the first frame, object 1 comes in frame 4."""
    root = tmp_path_factory.mktemp("sav")
    masks = {i: labels(SLOWER * i) for i in range(0, FRAMES, 2)}
    first = {i: (mask == 1).astype(np.uint8) for i, mask in masks.items()}
    second = {i: (mask == 2).astype(np.uint8) * (i >= 4) for i, mask in masks.items()}
    write_sav(root, {"clip": {0: first, 1: second}}, FRAMES)
    overwrite_frames(root / "JPEGImages_24fps/clip")
    return sav_sequences(root)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for index in (0, 6):
        write_image(root / "images" / f"{index}.png", frame(index))
        write_image(root / "masks" / f"{index}.png", labels(index), palette=True)
    return image_set(root)


def both(models, sequences, rule, prompt):
    official, exported = models(rule.exclusive)
    theirs = evaluate(official, sequences, rule, prompt=prompt)
    ours = evaluate(exported, sequences, rule, prompt=prompt)
    return theirs, ours


def assert_same_scores(theirs, ours):
    pairs = list(zip(theirs.objects, ours.objects, strict=True))
    assert pairs
    for their, our in pairs:
        assert our.object_id == their.object_id
        assert our.frames == their.frames
        assert our.j == pytest.approx(their.j, abs=0.1)
        assert our.f == pytest.approx(their.f, abs=0.1)
    assert ours.j > 50, "masks that segment nothing agree for no reason"


@pytest.mark.parametrize(
    ("prompt", "exclusive"),
    [
        ("mask", True),
        ("click", True),
        ("box", False),
        pytest.param("mask", False, marks=pytest.mark.slow),
    ],
)
def test_davis(models, davis, prompt, exclusive):
    theirs, ours = both(models, davis, replace(DAVIS, exclusive=exclusive), prompt)
    assert_same_scores(theirs, ours)
    assert theirs.settings["model_sha256"] != ours.settings["model_sha256"]
    assert theirs.fps > 0
    assert ours.fps > 0


def test_masks_exclude_each_other(models, davis):
    for model in models(True):
        prompts = first_prompts(davis[0], "click")
        for masks in model.track(davis[0], prompts):
            assert not (masks[1] & masks[2]).any()


def test_sav_with_an_object_that_comes_later(models, sav):
    theirs, ours = both(models, sav, SA_V, "mask")
    assert [item.frames for item in ours.objects] == [3, 2]
    assert_same_scores(theirs, ours)


def test_object_has_no_mask_before_its_prompt(models, sav):
    for model in models(False):
        frames = list(model.track(sav[0], first_prompts(sav[0], "mask")))
        assert [sorted(masks) for masks in frames] == [[0]] * 4 + [[0, 1]] * (FRAMES - 4)


@pytest.mark.parametrize("prompt", ["click", "box"])
def test_images(models, images, prompt):
    theirs, ours = both(models, images, IMAGES, prompt)
    assert len(ours.objects) == 4
    assert_same_scores(theirs, ours)


@pytest.mark.parametrize("kind", [OfficialModel, ExportedModel])
def test_images_take_no_masks(models, images, kind):
    model = models(False)[kind is ExportedModel]
    assert isinstance(model, kind)
    with pytest.raises(PromptError, match="with a click or a box"):
        model.segment(images[0], first_prompts(images[0], "mask"))


def test_official_progress_bars_stay_silent(models, davis, capfd):
    next(models(True)[0].track(davis[0], first_prompts(davis[0], "mask")))
    assert capfd.readouterr() == ("", "")


@needs_data(NANO, DATA / "davis")
@pytest.mark.parametrize("prompt", ["mask", "click"])
def test_trained_model_on_real_frames(tmp_path, prompt):
    root = DATA / "davis"
    for kind, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
        folder = tmp_path / kind / "480p" / "blackswan"
        folder.mkdir(parents=True)
        for index in range(6):
            name = f"{index:05d}{suffix}"
            (folder / name).symlink_to(root / kind / "480p" / "blackswan" / name)
    model, config = tmp_path / "nano.onnx", NANO.with_suffix(".yaml")
    onnx_from_checkpoint(NANO, model, config=config, show_progress=False)
    sequences = davis_sequences(tmp_path)
    with OfficialModel(NANO, exclusive=True, config=config, threads=1) as official:
        theirs = evaluate(official, sequences, DAVIS, prompt=prompt)
    with ExportedModel(model, exclusive=True, backend="ort", threads=1) as exported:
        ours = evaluate(exported, sequences, DAVIS, prompt=prompt)
    assert_same_scores(theirs, ours)
    assert ours.j > 60
