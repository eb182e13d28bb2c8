"""Checkpoints, frames and pairs of predictors for the benchmarks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from PIL import Image

from qsam2_deploy.engines.protocol import Arrays, Backend, WrappedBackend
from qsam2_deploy.errors import VideoError
from qsam2_deploy.media.reading.sources import open_frames
from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.spec import IMAGE_ENCODER
from tests.parity.clip import write_clip
from tests.parity.variants import without_autocast
from tests.support.weights import write_checkpoint


def random_checkpoint(folder: Path) -> tuple[Path, Path]:
    """Write a tiny model with random weights; return checkpoint and configuration."""
    path = write_checkpoint(folder / "random.pt")
    return path, path.with_suffix(".yaml")


def write_frames(video: Path | None, folder: Path, count: int) -> tuple[int, int]:
    """Write the first frames of a video as numbered JPEG files; return width and height.

    Without a video, the generated clip of the tests is written.

    Raises:
        VideoError: the video cannot be read, or is too short.
    """
    if video is None:
        write_clip(folder, count)
    else:
        folder.mkdir(parents=True)
        with open_frames(video) as frames:
            for index, frame in enumerate(itertools.islice(frames, count)):
                Image.fromarray(frame).save(folder / f"{index:05d}.jpg", quality=95)
    written = sorted(folder.iterdir())
    if len(written) < count:
        raise VideoError(f"{video} has only {len(written)} frames, but {count} are needed")
    with Image.open(written[0]) as image:
        return image.size


def link_first(source: Path, folder: Path, count: int) -> Path:
    """Make a folder with links to the first frames of another one."""
    folder.mkdir()
    for file in sorted(source.iterdir())[:count]:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def official(config: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> Any:
    """Build the official predictor, in float32 throughout."""
    model = build_model(config)
    model.load_state_dict(state)
    return without_autocast(model)


def remember_features(predictor: Any, store: dict[int, Any]) -> None:
    """Let the official predictor encode each frame once, not once per visit.

    ``store`` maps frame numbers to features; it may be shared by predictors with the same encoder
    on the same video. The position encodings are equal for all frames and are kept once.
    """
    original = predictor._get_image_feature

    def get_image_feature(state: Any, frame_idx: int, batch_size: int) -> Any:
        if frame_idx in store:
            state["cached_features"] = {frame_idx: store[frame_idx]}
        features = original(state, frame_idx, batch_size)
        image, backbone = state["cached_features"][frame_idx]
        first = next(iter(store.values()), (image, backbone))[1]
        backbone["vision_pos_enc"] = first["vision_pos_enc"]
        store[frame_idx] = (image, backbone)
        return features

    predictor._get_image_feature = get_image_feature


class RememberingBackend(WrappedBackend):
    """A backend that encodes each image once; ``store`` as in :func:`remember_features`."""

    def __init__(self, backend: Backend, store: dict[int, Arrays]) -> None:
        """Wrap ``backend``."""
        super().__init__(backend)
        self._store = store

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run a component, or return what the encoder gave for the same image."""
        if component != IMAGE_ENCODER:
            return super().run(component, inputs)
        key = hash(inputs["image"].tobytes())
        if key not in self._store:
            self._store[key] = super().run(component, inputs)
        return self._store[key]
