"""What the official predictor does to mask logits after the network, in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..spec import NO_OBJ_SCORE, TrackingRules

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

_FILLED = np.float32(0.1)
"""Logit of a filled hole: just foreground (upstream ``fill_holes_in_mask_scores``)."""

_SUPPRESSED = np.float32(-10.0)
"""Highest logit where another object wins: a probability of 4.5e-5."""


def select_mask(
    mask_logits: FloatArray,
    ious: FloatArray,
    pointers: FloatArray,
    object_score: float,
    *,
    multimask: bool,
    rules: TrackingRules,
) -> tuple[FloatArray, float, FloatArray]:
    """Choose one of the decoder's four candidates for one object.

    The rules are those of upstream ``MaskDecoder.forward`` and ``SAM2Base._forward_sam_heads``:
    candidate 0 answers clear prompts, candidates 1 to 3 ambiguous ones. Where candidate 0 is
    wanted but is unstable, the best of the others takes its place; its pointer does not. An
    object that is not in the frame gets ``NO_OBJ_SCORE`` everywhere, after the choice is made.

    Args:
        mask_logits: float32 ``[4, h, w]``.
        ious: float32 ``[4]``, the predicted qualities.
        pointers: float32 ``[4, C]``, the object pointer of each candidate.
        object_score: logit; above 0 the object is in the frame.
        multimask: choose among candidates 1 to 3.
        rules: the model's flags.

    Returns:
        Mask logits float32 ``[h, w]``, the predicted quality, and the pointer float32 ``[C]``.
    """
    best = 1 + int(np.argmax(ious[1:]))
    token = best if multimask and rules.use_multimask_token_for_obj_ptr else 0
    chosen = best if multimask or _falls_back(mask_logits[0], rules) else 0
    mask = mask_logits[chosen]
    if not object_score > 0:
        mask = np.full_like(mask, NO_OBJ_SCORE)
    return mask, float(ious[chosen]), pointers[token]


def _falls_back(single_mask: FloatArray, rules: TrackingRules) -> bool:
    """Say whether the single mask is too unstable to be used."""
    if not rules.dynamic_multimask_via_stability:
        return False
    score = stability_score(single_mask, rules.dynamic_multimask_stability_delta)
    return not bool(score >= np.float32(rules.dynamic_multimask_stability_thresh))


def stability_score(logits: FloatArray, delta: float) -> FloatArray:
    """Return how little the mask's area depends on the threshold, in ``[0, 1]``.

    ``|logits > delta| / |logits > -delta|``, and 1 where the denominator is 0 (upstream
    ``MaskDecoder._get_stability_scores``).

    Args:
        logits: float32 ``[..., h, w]``.
        delta: half the distance between the two thresholds, as a logit.

    Returns:
        float32 ``[...]``.
    """
    # Pixels are counted in integers and divided in float32, as upstream.
    inner = np.count_nonzero(logits > np.float32(delta), axis=(-2, -1))
    outer = np.count_nonzero(logits > np.float32(-delta), axis=(-2, -1))
    ratio = np.asarray(inner, np.float32) / np.maximum(np.asarray(outer, np.float32), 1)
    return np.where(np.asarray(outer) > 0, ratio, np.float32(1)).astype(np.float32)


def non_overlapping(logits: FloatArray) -> FloatArray:
    """Let the highest logit win each pixel; push the other objects down to at most -10.

    Upstream ``SAM2Base._apply_non_overlapping_constraints``; the first object wins a tie.

    Args:
        logits: float32 ``[B, 1, h, w]``.

    Returns:
        float32 ``[B, 1, h, w]``; the same array when ``B`` is 1.
    """
    if logits.shape[0] == 1:
        return logits
    winner = np.argmax(logits, axis=0, keepdims=True)
    objects = np.arange(logits.shape[0]).reshape(-1, 1, 1, 1)
    return np.where(winner == objects, logits, np.minimum(logits, _SUPPRESSED))


def fill_holes(logits: FloatArray, max_area: int) -> FloatArray:
    """Give small background regions the logit 0.1.

    A hole is an 8-connected region of ``logits <= 0`` of at most ``max_area`` pixels, at the
    border too (upstream ``fill_holes_in_mask_scores`` with its CUDA connected components).

    Args:
        logits: float32 ``[h, w]``.
        max_area: largest hole in pixels; 0 fills none.

    Returns:
        float32 ``[h, w]``; the same array when there is nothing to fill.
    """
    holes = small_regions(logits <= 0, max_area)
    return np.where(holes, _FILLED, logits) if holes.any() else logits


def small_regions(mask: BoolArray, max_area: float) -> BoolArray:
    """Return the 8-connected regions of ``mask`` of at most ``max_area`` pixels.

    Rows are cut into runs, runs that touch are joined, and the lengths are summed: the work
    grows with the number of runs, not with the number of pixels or the area.

    Args:
        mask: bool ``[h, w]``.
        max_area: in pixels.

    Returns:
        bool ``[h, w]``, a subset of ``mask``.
    """
    if max_area <= 0:
        return np.zeros_like(mask)
    height, width = mask.shape
    # One empty column after each row, so that runs of the flat array never cross rows.
    padded = np.zeros((height, width + 1), np.bool_)
    padded[:, :width] = mask
    edges = np.flatnonzero(np.diff(padded.reshape(-1), prepend=False, append=False))
    starts, stops = edges[0::2], edges[1::2]
    upper, lower = _touching_runs(starts, stops, width + 1)
    region = _connected(len(starts), upper, lower)
    areas = np.bincount(region, weights=stops - starts, minlength=len(starts))
    small = areas[region] <= max_area
    return _paint(starts[small], stops[small], padded.shape)[:, :width]


def _touching_runs(starts: IntArray, stops: IntArray, stride: int) -> tuple[IntArray, IntArray]:
    """Return the pairs of runs in neighbouring rows that touch, corners included."""
    first = np.searchsorted(stops, starts + stride, side="left")
    last = np.searchsorted(starts, stops + stride, side="right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    within = np.arange(len(upper)) - np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(first, counts) + within


def _connected(count: int, a: IntArray, b: IntArray) -> IntArray:
    """Return the smallest node that each of ``count`` nodes is joined to by edges ``a``-``b``."""
    root = np.arange(count)
    while True:
        lowest = np.minimum(root[a], root[b])
        if np.array_equal(lowest, np.maximum(root[a], root[b])):
            return root
        hooked = root.copy()
        np.minimum.at(hooked, root[a], lowest)
        np.minimum.at(hooked, root[b], lowest)
        # Follow the links to the end, so that every node again points at a root.
        while not np.array_equal(hooked, root):
            root, hooked = hooked, hooked[hooked]


def _paint(starts: IntArray, stops: IntArray, shape: tuple[int, ...]) -> BoolArray:
    steps = np.zeros(shape[0] * shape[1] + 1, np.int8)
    steps[starts] = 1
    # Runs in one row are at least one pixel apart, so no run starts where another stops.
    steps[stops] = -1
    return np.cumsum(steps[:-1], dtype=np.int8).reshape(shape).astype(np.bool_)
