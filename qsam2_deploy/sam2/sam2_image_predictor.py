"""What scripts import from ``sam2.sam2_image_predictor``."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..errors import PromptError
from ..predictors import image_predictor as _ours
from ..predictors.camera_predictor import SAM2CameraPredictor
from ..predictors.module_like import ModuleLike
from ..predictors.shared_model import SharedModel
from ..predictors.still_image import Embedding
from ..predictors.tensor_like import as_output, on_host
from ..predictors.video_predictor import SAM2VideoPredictor
from ._settings import output_kind
from .build_sam import build_sam2_hf

__all__ = ["SAM2ImagePredictor"]


class SAM2ImagePredictor(ModuleLike, _ours.SAM2ImagePredictor):
    """Takes what ``build_sam2`` returned, or a predictor of videos, as upstream's does.

    Programs that keep the embeddings of images read and write ``_features``, ``_orig_hw`` and
    ``_is_image_set``; they are what they are upstream.
    """

    def __init__(
        self,
        sam_model: SharedModel | SAM2VideoPredictor | SAM2CameraPredictor,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **_kwargs: Any,
    ) -> None:
        """Share the model.

        Args:
            sam_model: of ``build_sam2`` or ``build_sam2_video_predictor``.
            mask_threshold: see :class:`qsam2_deploy.SAM2ImagePredictor`, as the others.
            max_hole_area: likewise.
            max_sprinkle_area: likewise.
            **_kwargs: ignored, as upstream.
        """
        self._features: dict[str, Any] | None = None
        self._orig_hw: list[tuple[int, int]] = []
        super().__init__(
            sam_model if isinstance(sam_model, SharedModel) else sam_model.model,
            mask_threshold=mask_threshold,
            max_hole_area=max_hole_area,
            max_sprinkle_area=max_sprinkle_area,
        )
        self.model: Any = sam_model

    @property
    def _is_image_set(self) -> bool:
        return self._features is not None

    @_is_image_set.setter
    def _is_image_set(self, value: bool) -> None:
        if not value:
            self._features = None

    @property
    def _images(self) -> list[Embedding]:
        """What the base computes with, made of the attributes that programs read and write."""
        if self._features is None:
            return []
        embeddings = np.asarray(on_host(self._features["image_embed"]), np.float32)
        high_res = [np.asarray(on_host(x), np.float32) for x in self._features["high_res_feats"]]
        if len(self._orig_hw) != len(embeddings):
            raise PromptError(
                f"_features holds {len(embeddings)} images, but _orig_hw the sizes of "
                f"{len(self._orig_hw)}; set both"
            )
        return [
            Embedding((int(h), int(w)), *(x[i : i + 1] for x in (embeddings, *high_res)))
            for i, (h, w) in enumerate(self._orig_hw)
        ]

    @_images.setter
    def _images(self, images: list[Embedding]) -> None:
        self._features, self._orig_hw = None, [image.size for image in images]
        if images:
            given = as_output(output_kind())
            join = np.concatenate
            self._features = {
                "image_embed": given(join([image.conditioned for image in images])),
                "high_res_feats": [
                    given(join([image.high_res_0 for image in images])),
                    given(join([image.high_res_1 for image in images])),
                ],
            }

    def predict(
        self, point_coords: Any = None, point_labels: Any = None, *args: Any, **kwargs: Any
    ) -> _ours.Prediction:
        """See the base; labels without points are ignored, as upstream."""
        labels = None if point_coords is None else point_labels
        return super().predict(point_coords, labels, *args, **kwargs)

    def get_image_embedding(self) -> Any:
        """Return the embedding of the images that are set, see the base."""
        return as_output(output_kind())(super().get_image_embedding())

    @classmethod
    def from_pretrained(cls, model_id: str | os.PathLike[str], **kwargs: Any) -> SAM2ImagePredictor:
        """Open a model by its name on the Hugging Face Hub."""
        return cls(build_sam2_hf(str(model_id), **kwargs), **kwargs)
