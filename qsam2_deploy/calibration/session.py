"""Tracking a made-up object through calibration images, so that every layer of the model runs.

The images are taken for the frames of a video. Where they are none, the numbers in the memory are
still of the kind that the layers will see.
"""

from __future__ import annotations

from typing import Any

import torch

RESTART_EVERY = 8
"""Frames after which another object is prompted."""

_MANY_FRAMES = 10_000
_MAX_LOGIT = 32.0


class TrackingSession:
    """Runs all four parts of a SAM2 model on one image after another.

    The first image, and every eighth after it, is prompted with a click or a box, which is then
    corrected with two clicks; every image is also tracked with the memory of those before it.
    """

    def __init__(self, model: Any) -> None:
        """Take upstream's ``SAM2Base`` in evaluation mode; start without any memory."""
        self._model = model
        self._images = 0
        self._memory: dict[str, dict[int, Any]] = {}

    @torch.no_grad()
    def __call__(self, image: torch.Tensor) -> None:
        """Run on ``image``, float32 ``[1, 3, S, S]``."""
        backbone = self._model.forward_image(image)
        _, *features = self._model._prepare_backbone_features(backbone)  # noqa: SLF001
        index = self._images % RESTART_EVERY
        if index == 0:
            self._memory = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
            self._prompt(features)
        self._memory["non_cond_frame_outputs"][index + 1] = self._step(index + 1, features)
        self._images += 1

    def _prompt(self, features: list[Any]) -> None:
        """Click into the middle, or draw a box around it; then correct what comes out."""
        with_box = self._images // RESTART_EVERY % 2 == 1
        first = ([[0.25, 0.25], [0.75, 0.75]], [2, 3]) if with_box else ([[0.5, 0.5]], [1])
        output = self._step(0, features, first)
        logits = output["pred_masks"].clamp(-_MAX_LOGIT, _MAX_LOGIT)
        second = ([[0.5, 0.4], [0.1, 0.1]], [1, 0])
        output = self._step(0, features, second, logits)
        self._memory["cond_frame_outputs"][0] = output

    def _step(
        self,
        index: int,
        features: list[Any],
        points: tuple[list[list[float]], list[int]] | None = None,
        logits: torch.Tensor | None = None,
    ) -> Any:
        inputs = None
        if points is not None:
            coordinates = torch.tensor([points[0]]) * self._model.image_size
            inputs = {"point_coords": coordinates, "point_labels": torch.tensor([points[1]])}
        return self._model.track_step(
            index,
            points is not None,
            *features,
            inputs,
            None,
            self._memory,
            _MANY_FRAMES,
            prev_sam_mask_logits=logits,
        )
