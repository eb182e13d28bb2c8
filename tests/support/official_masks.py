"""Upstream's automatic mask generator, where torchvision cannot be imported.

It needs five names of torchvision, which are written here in torch, from their documentation.
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch.nn.functional import interpolate


def official_mask_generator(model: Any, **options: Any) -> Any:
    """Return upstream's ``SAM2AutomaticMaskGenerator`` of a model of any size."""
    with mock.patch.dict(sys.modules, _torchvision()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script, by torch
        from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

        generator = SAM2AutomaticMaskGenerator(model, **options)
    # Written for 1024 pixels upstream, and nowhere asked for.
    side = model.image_size // 4
    generator.predictor._bb_feat_sizes = [(side // 2**i, side // 2**i) for i in range(3)]
    return generator


def connected_components(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return labels and areas of the 8-connected regions of ``[N, 1, H, W]``, 0 outside of them.

    That is what upstream's ``get_connected_components`` does with its CUDA extension.
    """
    import cv2

    labels, areas = torch.zeros(mask.shape, dtype=torch.int32), torch.zeros(mask.shape)
    for index in range(len(mask)):
        image = mask[index, 0].to(torch.uint8).numpy()
        _, numbers, statistics, _ = cv2.connectedComponentsWithStats(image, connectivity=8)
        labels[index, 0] = torch.from_numpy(numbers)
        sizes = torch.from_numpy(statistics[:, cv2.CC_STAT_AREA]).float()
        sizes[0] = 0
        areas[index, 0] = sizes[labels[index, 0].long()]
    return labels, areas


def _torchvision() -> dict[str, ModuleType]:
    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms")
    modules = {name: ModuleType(name) for name in names}
    modules["torchvision.ops.boxes"].__dict__.update(batched_nms=batched_nms, box_area=box_area)
    modules["torchvision.transforms"].__dict__.update(
        Normalize=Normalize, Resize=Resize, ToTensor=ToTensor
    )
    return modules


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Return the areas ``[N]`` of boxes ``[N, 4]``, (x1, y1, x2, y2)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """Return the boxes that no better box of the same category overlaps by more; best first."""
    order = torch.sort(scores, descending=True, stable=True).indices
    area = box_area(boxes)
    corner = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    sides = (torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - corner).clamp(min=0)
    inner = sides.prod(dim=2)
    iou = inner / (area[:, None] + area[None] - inner)
    too_close = (iou.double() > iou_threshold) & (idxs[:, None] == idxs[None])
    alive = torch.ones(len(boxes), dtype=torch.bool)
    kept = []
    for index in order.tolist():
        if alive[index]:
            kept.append(index)
            alive &= ~too_close[index]
    return torch.tensor(kept, dtype=torch.int64)


class ToTensor:
    """From uint8 ``[H, W, 3]`` to float32 ``[3, H, W]`` from 0 to 1."""

    def __call__(self, image: Any) -> torch.Tensor:
        return torch.tensor(image).permute(2, 0, 1).contiguous().float().div(255)


class Resize(torch.nn.Module):
    """To a fixed size, bilinear with antialiasing."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return interpolate(image[None], size=self.size, mode="bilinear", antialias=True)[0]


class Normalize(torch.nn.Module):
    """Subtract the mean of each channel, and divide by its deviation."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean = torch.tensor(mean)[:, None, None]
        self.std = torch.tensor(std)[:, None, None]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image - self.mean) / self.std
