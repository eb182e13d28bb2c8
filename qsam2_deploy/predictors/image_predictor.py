"""Masks of still images from clicks, boxes and masks, without torch.

The methods, arguments and results are those of upstream
``sam2.sam2_image_predictor.SAM2ImagePredictor``; the model is a file instead of a torch module.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..engines.open import open_backend
from ..engines.protocol import Backend, engine_of
from ..errors import PromptError, VideoError
from ..tracking.resize import resize_bilinear
from .image_prompts import decoder_prompts
from .pretrained import FromPretrained
from .still_image import (
    Embedding,
    clamped_logits,
    cleaned_logits,
    decode_masks,
    encode_image,
    rgb_array,
)
from .tensor_like import on_host

FloatArray = npt.NDArray[np.float32]
Prediction = tuple[FloatArray, FloatArray, FloatArray]
"""Masks ``[C, height, width]``, qualities ``[C]`` and low-resolution logits ``[C, S/4, S/4]``;
with a leading ``B`` where several objects were asked for."""


class SAM2ImagePredictor(FromPretrained):
    """Drop-in for upstream's image predictor.

    ::

        with SAM2ImagePredictor("model.onnx") as predictor:
            predictor.set_image(image)
            masks, ious, low_res = predictor.predict(point_coords=[[x, y]], point_labels=[1])

    The engine is opened when it is first needed and closed by :meth:`close` or by leaving the
    ``with`` block.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Backend,
        backend: str = "auto",
        threads: int | None = None,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        *,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "exact",
    ) -> None:
        """Choose the model and the engine; the engine is loaded when it is first needed.

        Args:
            model: a ``model.onnx``, or a backend of one's own, not yet entered.
            backend: ``auto``, ``ort`` or ``openvino``.
            threads: CPU threads of the engine; default: one for each core that may be used.
            mask_threshold: logit above which a pixel belongs to the mask.
            max_hole_area: fill background regions up to this many low-resolution pixels.
            max_sprinkle_area: remove foreground regions up to this many low-resolution pixels.
            cache: folder for the lowered graphs, so that the model opens faster the next time.
            precision: ``exact``, or ``fast``; see :func:`.open_backend`.

        Raises:
            ModelFileError: the model cannot be used.
            MissingDependencyError: the engine is not installed.
        """
        self.model = model
        self.mask_threshold = mask_threshold
        self._max_hole_area = max_hole_area
        self._max_sprinkle_area = max_sprinkle_area
        self._backend = open_backend(model, backend, threads, cache=cache, precision=precision)
        self._is_open = False
        self._images: list[Embedding] = []
        self._is_batch = False

    def __enter__(self) -> SAM2ImagePredictor:
        """Open the engine."""
        self.opened()
        return self

    def __exit__(self, *error: object) -> None:
        """Close the engine."""
        self.close()

    @property
    def engine(self) -> str:
        """The engine and its precision, such as ``openvino, exact``; for people to read."""
        return engine_of(self._backend)

    def close(self) -> None:
        """Forget the images and close the engine; it opens again when it is needed."""
        self.reset_predictor()
        if self._is_open:
            self._is_open = False
            self._backend.__exit__(None, None, None)

    def set_image(self, image: npt.NDArray[np.uint8] | Image.Image) -> None:
        """Encode one image for :meth:`predict`.

        Args:
            image: uint8 RGB array ``[height, width, 3]``, or a Pillow image.

        Raises:
            VideoError: ``image`` is of another type or shape.
            ModelFileError: the model cannot be opened.
        """
        self.reset_predictor()
        self._images = [self._encode(image)]

    def set_image_batch(self, image_list: Sequence[npt.NDArray[np.uint8] | Image.Image]) -> None:
        """Encode several images, one after the other, for :meth:`predict_batch`.

        Args:
            image_list: images as in :meth:`set_image`; their sizes may differ.

        Raises:
            VideoError: the list is empty, or an image is of another type or shape.
            ModelFileError: the model cannot be opened.
        """
        self.reset_predictor()
        if not isinstance(image_list, (list, tuple)) or not image_list:
            raise VideoError(
                f"image_list must be a list of one or more images, but got "
                f"{type(image_list).__name__}; use set_image for a single image"
            )
        self._images = [self._encode(image) for image in image_list]
        self._is_batch = True

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Prediction:
        """Predict masks of the image that was set last.

        Args:
            point_coords: ``[P, 2]`` or ``[B, P, 2]``, (x, y) in pixels of the image.
            point_labels: ``[P]`` or ``[B, P]``: 1 the object is here, 0 it is not, -1 ignored.
            box: ``[4]`` or ``[B, 4]``, (x1, y1, x2, y2) in pixels of the image.
            mask_input: ``[1, S/4, S/4]`` or ``[B, 1, S/4, S/4]``, low-resolution logits of an
                earlier prediction.
            multimask_output: three candidates instead of one; better for a single click.
            return_logits: logits instead of 0 and 1.
            normalize_coords: False if the coordinates are already divided by the image's size.

        Returns:
            Masks float32 ``[C, height, width]`` (0 and 1, or logits), predicted qualities
            ``[C]``, and logits ``[C, S/4, S/4]`` clamped to ±32, where ``C`` is 3 or 1. For
            ``B > 1`` objects each has a leading ``B``.

        Raises:
            PromptError: no image was set, or a prompt has another shape.
        """
        if not self._images:
            raise PromptError("no image is set; call set_image(image) before predict")
        return self._predict(
            self._images[-1],
            (point_coords, point_labels, box, mask_input),
            multimask=multimask_output,
            return_logits=return_logits,
            normalize=normalize_coords,
        )

    def predict_batch(
        self,
        point_coords_batch: Sequence[npt.ArrayLike] | None = None,
        point_labels_batch: Sequence[npt.ArrayLike] | None = None,
        box_batch: Sequence[npt.ArrayLike] | None = None,
        mask_input_batch: Sequence[npt.ArrayLike] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
        """Predict masks of every image of :meth:`set_image_batch`.

        Args:
            point_coords_batch: one entry per image, each as in :meth:`predict`; likewise
                ``point_labels_batch``, ``box_batch`` and ``mask_input_batch``.
            point_labels_batch: see there.
            box_batch: see there.
            mask_input_batch: see there.
            multimask_output: see :meth:`predict`.
            return_logits: see :meth:`predict`.
            normalize_coords: see :meth:`predict`.

        Returns:
            Lists of masks, qualities and low-resolution logits, one entry per image.

        Raises:
            PromptError: no batch was set, or a list has another length, or as :meth:`predict`.
        """
        if not self._is_batch:
            raise PromptError("no batch is set; call set_image_batch(images) before predict_batch")
        count = len(self._images)
        columns = [
            _per_image(name, values, count)
            for name, values in (
                ("point_coords_batch", point_coords_batch),
                ("point_labels_batch", point_labels_batch),
                ("box_batch", box_batch),
                ("mask_input_batch", mask_input_batch),
            )
        ]
        results = [
            self._predict(
                image,
                prompt,
                multimask=multimask_output,
                return_logits=return_logits,
                normalize=normalize_coords,
            )
            for image, *prompt in zip(self._images, *columns, strict=True)
        ]
        masks, ious, low_res = zip(*results, strict=True)
        return list(masks), list(ious), list(low_res)

    def get_image_embedding(self) -> FloatArray:
        """Return the embedding of the images that are set, float32 ``[images, C, S/16, S/16]``.

        Raises:
            PromptError: no image was set.
        """
        if not self._images:
            raise PromptError("no image is set; call set_image(image) before get_image_embedding")
        return np.concatenate([image.conditioned for image in self._images])

    def reset_predictor(self) -> None:
        """Forget the images; the engine stays open."""
        self._images = []
        self._is_batch = False

    def opened(self) -> Backend:
        """Open the engine if it is not open yet, and return it.

        It stays this predictor's: :meth:`close` closes it.

        Raises:
            ModelFileError: the model cannot be opened.
        """
        if not self._is_open:
            self._backend.__enter__()
            self._is_open = True
        return self._backend

    def _encode(self, image: npt.NDArray[np.uint8] | Image.Image) -> Embedding:
        return encode_image(self.opened(), rgb_array(image))

    def _predict(
        self,
        image: Embedding,
        prompt: Sequence[npt.ArrayLike | None],
        *,
        multimask: bool,
        return_logits: bool,
        normalize: bool,
    ) -> Prediction:
        backend = self.opened()
        points, labels, box, mask = (on_host(value) for value in prompt)
        size = image.size if normalize else (1, 1)
        prompts = decoder_prompts(points, labels, box, mask, size=size, spec=backend.spec)
        low_res, ious = decode_masks(backend, image, prompts, multimask=multimask)
        masks = self._full_size(low_res, image.size, return_logits)
        low_res = clamped_logits(low_res)
        if len(masks) == 1:
            return masks[0], ious[0], low_res[0]
        return masks, ious, low_res

    def _full_size(
        self, low_res: FloatArray, size: tuple[int, int], return_logits: bool
    ) -> FloatArray:
        """Clean, enlarge and (unless logits are wanted) threshold masks ``[B, C, h, w]``."""
        result = np.empty((*low_res.shape[:2], *size), np.float32)
        # One at a time: many objects on a large image would need several times the memory.
        for index in np.ndindex(*low_res.shape[:2]):
            logits = resize_bilinear(self._cleaned(low_res[index]), *size)
            result[index] = logits if return_logits else logits > self.mask_threshold
        return result

    def _cleaned(self, logits: FloatArray) -> FloatArray:
        return cleaned_logits(
            logits,
            threshold=self.mask_threshold,
            max_hole_area=self._max_hole_area,
            max_sprinkle_area=self._max_sprinkle_area,
        )


def _per_image(
    name: str, values: Sequence[npt.ArrayLike] | None, count: int
) -> Sequence[npt.ArrayLike | None]:
    if values is None:
        return [None] * count
    if len(values) != count:
        raise PromptError(
            f"{name} must have one entry for each of the {count} images, but got {len(values)}"
        )
    return values
