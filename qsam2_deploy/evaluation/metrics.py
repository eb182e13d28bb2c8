"""Region similarity J and boundary accuracy F of one mask, as the DAVIS benchmark defines them.

F. Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016, section 4. Both are numbers from 0 to 1; two empty masks agree, which counts 1.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Window = tuple[slice, slice]

BOUNDARY_TOLERANCE = 0.008
"""How far boundaries may be apart, as a share of the image's diagonal."""


def region_similarity(predicted: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Return J, the intersection over the union of two masks [H, W].

    Args:
        predicted: the result.
        truth: the annotation.
        void: pixels that count neither way.
    """
    predicted, truth = _without_void(predicted, truth, void)
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def boundary_accuracy(predicted: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Return F, the harmonic mean of precision and recall of the boundary of a mask [H, W].

    A boundary pixel is right if one of the other boundary lies within a disk around it, whose
    radius is 0.008 times the image's diagonal, rounded up. Only the part of the image that holds
    the masks is looked at.

    Args:
        predicted: the result.
        truth: the annotation.
        void: pixels that belong to neither mask.
    """
    predicted, truth = _without_void(predicted, truth, void)
    window = _window(predicted | truth)
    if window is None:
        return 1.0
    found, expected = boundary_map(predicted[window]), boundary_map(truth[window])
    count_found, count_expected = np.count_nonzero(found), np.count_nonzero(expected)
    if not count_found or not count_expected:
        return 1.0 if count_found == count_expected else 0.0
    radius = tolerance_radius(*truth.shape)
    precision = np.count_nonzero(found & dilated(expected, radius)) / count_found
    recall = np.count_nonzero(expected & dilated(found, radius)) / count_expected
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def tolerance_radius(height: int, width: int) -> int:
    """Return the radius in pixels within which boundaries of such an image match."""
    return math.ceil(BOUNDARY_TOLERANCE * float(np.linalg.norm((height, width))))


def boundary_map(mask: Mask) -> Mask:
    """Return the pixels [H, W] that differ from their right, lower or lower right neighbour.

    So a boundary lies half a pixel towards the origin. The image's border is no boundary.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, 1:] != mask[:, :-1]
    edge[:-1] |= mask[1:] != mask[:-1]
    edge[:-1, :-1] |= mask[1:, 1:] != mask[:-1, :-1]
    return edge


def dilated(mask: Mask, radius: int) -> Mask:
    """Return the pixels [H, W] within ``radius`` of a pixel of ``mask``, a disk with its rim."""
    result = np.zeros_like(mask)
    row = mask.copy()
    reach = 0
    # From the top of the disk to its middle, rows get wider; each serves above and below.
    for distance in range(radius, -1, -1):
        half_width = math.isqrt(radius * radius - distance * distance)
        for step in range(reach + 1, half_width + 1):
            row[:, step:] |= mask[:, :-step]
            row[:, :-step] |= mask[:, step:]
        reach = half_width
        if distance == 0:
            result |= row
        elif distance < len(mask):
            result[distance:] |= row[:-distance]
            result[:-distance] |= row[distance:]
    return result


def _without_void(predicted: Mask, truth: Mask, void: Mask | None) -> tuple[Mask, Mask]:
    if predicted.shape != truth.shape:
        raise ValueError(f"masks must have one shape, but got {predicted.shape} and {truth.shape}")
    return (predicted, truth) if void is None else (predicted & ~void, truth & ~void)


def _window(mask: Mask) -> Window | None:
    """Return the part of the image that holds the mask and all of its boundary."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    # One pixel around it: a boundary lies outside above and to the left, and shows only where
    # there is a neighbour below and to the right.
    top, left = max(0, int(rows[0]) - 1), max(0, int(columns[0]) - 1)
    return slice(top, int(rows[-1]) + 2), slice(left, int(columns[-1]) + 2)
