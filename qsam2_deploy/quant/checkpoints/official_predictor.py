"""The official predictor on a checkpoint, float or quantized, as something to evaluate.

It has the methods of ``qsam2_deploy.evaluation.model.Model``. Videos go through sam2's own
``SAM2VideoPredictor``. Images go through the parts of the same model, step by step as sam2's image
predictor does it, because that one needs torchvision.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from ..._common.versions import installed_versions
from ...errors import PromptError
from ...spec import ModelSpec
from .checkpoint import load_checkpoint

if TYPE_CHECKING:
    import os

    from ...data.sample import Frames, VideoSequence
    from ...evaluation.prompts import FirstPrompt

Masks = dict[int, npt.NDArray[np.bool_]]

_MEAN = np.array(ModelSpec.mean, np.float32)
_STD = np.array(ModelSpec.std, np.float32)


class OfficialModel:
    """A checkpoint in the official predictor, in float32 on the CPU; a context manager."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        exclusive: bool,
        config: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the checkpoint.

        Args:
            path: the file.
            exclusive: each pixel belongs to the object of the highest logit alone.
            config: YAML file of the architecture, where it is no official one.
            threads: of torch, while the context is open; default: its own choice.

        Raises:
            CheckpointError: the checkpoint cannot be used.
            MissingDependencyError: ``sam2`` is not installed.
        """
        checkpoint = load_checkpoint(path, config=config)
        self._info = {
            "model": checkpoint.path.name,
            "model_sha256": checkpoint.sha256,
            "backend": "torch",
            "threads": str(threads or "default"),
            "quantized": "no" if checkpoint.quantization is None else "yes",
            **installed_versions("sam2", "torch"),
        }
        self._model: Any = checkpoint.model
        self._model.non_overlap_masks = exclusive
        self._model.memory_attention.register_forward_pre_hook(_widen_memory, with_kwargs=True)
        self._threads, self._threads_before = threads, torch.get_num_threads()

    def __enter__(self) -> OfficialModel:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        return self

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self._threads_before)

    @property
    def info(self) -> Mapping[str, str]:
        """Name and digest of the file, and versions."""
        return self._info

    @property
    def module(self) -> Any:
        """The predictor itself, ``sam2``'s ``SAM2VideoPredictor``."""
        return self._model

    @torch.inference_mode()
    def track(self, sequence: VideoSequence, prompts: Sequence[FirstPrompt]) -> Iterator[Masks]:
        """Yield the masks of every frame, bool [H, W] for each object.

        Objects that are prompted on one frame are tracked together from there on. An object that
        comes later gets its own pass: the official predictor would else let it see the future.

        Raises:
            VideoError: a frame cannot be read.
        """
        starts = sorted({prompt.frame_index for prompt in prompts})
        passes = {
            start: self._propagate(sequence, [p for p in prompts if p.frame_index == start], start)
            for start in starts
        }
        for index in range(sequence.frame_count):
            masks: Masks = {}
            for start in starts:
                if start <= index:
                    masks |= next(passes[start])
            yield masks

    @torch.inference_mode()
    def segment(self, image: VideoSequence, prompts: Sequence[FirstPrompt]) -> Masks:
        """Return the masks of an image, each from its click or box.

        Raises:
            PromptError: a prompt is a mask.
            VideoError: the image cannot be read.
        """
        features = self._image_features(image.frame(0))
        return {p.object_id: self._segment_object(features, p, image.size) for p in prompts}

    def _propagate(
        self, sequence: VideoSequence, prompts: Sequence[FirstPrompt], start: int
    ) -> Iterator[Masks]:
        state = _state(self._model, sequence)
        for prompt in prompts:
            _give(self._model, state, prompt)
        for _, ids, logits in _quietly(self._model.propagate_in_video(state, start)):
            found = (logits[:, 0] > 0).cpu().numpy()
            yield dict(zip(ids, found, strict=True))

    def _image_features(self, image: Frames) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the features [1, C, S/16, S/16] without memory, and those of high resolution."""
        model = self._model
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        size = (model.image_size, model.image_size)
        resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        mean, std = (torch.from_numpy(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        encoded = model.forward_image((resized - mean) / std)
        *high_res, low = encoded["backbone_fpn"][-model.num_feature_levels :]
        # Upstream trains still images as first frames of videos: this stands for "no memory".
        return low + model.no_mem_embed.view(1, -1, 1, 1), high_res

    def _segment_object(
        self,
        features: tuple[torch.Tensor, list[torch.Tensor]],
        prompt: FirstPrompt,
        size: tuple[int, int],
    ) -> npt.NDArray[np.bool_]:
        model, (embedding, high_res) = self._model, features
        if prompt.click is not None:
            corners, labels = [prompt.click], [1]
        elif prompt.box is not None:
            corners, labels = [prompt.box[:2], prompt.box[2:]], [2, 3]
        else:
            raise PromptError("an image is prompted with a click or a box; choose one of them")
        scale = model.image_size / torch.tensor([size[1], size[0]], dtype=torch.float32)
        points = torch.tensor(corners, dtype=torch.float32)[None] * scale
        sparse, dense = model.sam_prompt_encoder(
            points=(points, torch.tensor([labels], dtype=torch.int32)), boxes=None, masks=None
        )
        masks, ious, _, _ = model.sam_mask_decoder(
            image_embeddings=embedding,
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            # One click is ambiguous: of the three answers the model's own favourite is taken.
            multimask_output=prompt.click is not None,
            repeat_image=False,
            high_res_features=high_res,
        )
        best = masks[:, int(ious[0].argmax())][None]
        enlarged = F.interpolate(best, size, mode="bilinear", align_corners=False)
        found: npt.NDArray[np.bool_] = (enlarged[0, 0] > 0).numpy()
        return found


class _LazyFrames:
    """The frames of a sequence as the predictor wants them; none of them stays in memory."""

    def __init__(self, sequence: VideoSequence, image_size: int) -> None:
        self._sequence, self._image_size = sequence, image_size

    def __len__(self) -> int:
        return self._sequence.frame_count

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return frame ``index``, float32 [3, S, S], normalised as sam2's loader does."""
        image = Image.fromarray(self._sequence.frame(index))
        pixels = np.array(image.resize((self._image_size, self._image_size))) / 255.0
        normalised = (pixels.astype(np.float32) - _MEAN) / _STD
        return torch.from_numpy(normalised).permute(2, 0, 1)


def _state(predictor: Any, sequence: VideoSequence) -> dict[str, Any]:
    """Return the predictor's state for a sequence of any reader.

    The predictor itself reads only folders and videos, and all frames at once. So it gets a
    folder of one frame, and then the others through a list that reads them one by one.
    """
    with tempfile.TemporaryDirectory() as folder:
        # It wants the name of a JPEG file, but knows formats by their content; PNG loses nothing.
        Image.fromarray(sequence.frame(0)).save(Path(folder, "0.jpg"), "png", compress_level=1)
        with redirect_stderr(io.StringIO()):
            state: dict[str, Any] = predictor.init_state(folder)
    state["images"] = _LazyFrames(sequence, predictor.image_size)
    state["num_frames"] = sequence.frame_count
    return state


def _give(predictor: Any, state: dict[str, Any], prompt: FirstPrompt) -> None:
    if prompt.mask is not None:
        predictor.add_new_mask(state, prompt.frame_index, prompt.object_id, prompt.mask)
        return
    points = None if prompt.click is None else [prompt.click]
    predictor.add_new_points_or_box(
        state,
        prompt.frame_index,
        prompt.object_id,
        points=points,
        labels=None if points is None else [1],
        box=prompt.box,
    )


def _quietly(items: Iterator[Any]) -> Iterator[Any]:
    """Iterate without upstream's own progress bar, which opens with the first item."""
    with redirect_stderr(io.StringIO()):
        first = next(items)
    yield first
    yield from items


def _widen_memory(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Let the predictor run in float32: it keeps memories in bfloat16 and relies on autocast."""
    return args, {**kwargs, "memory": kwargs["memory"].float()}
