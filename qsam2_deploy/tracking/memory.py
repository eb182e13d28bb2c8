"""The memory of one object: what earlier frames left behind, and which of it counts now.

The rules are those of upstream ``SAM2Base._prepare_memory_conditioned_features`` and
``select_closest_cond_frames``. The bank is plain data that the tracker takes and fills; nothing is
hidden in it.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..spec import TrackingRules
from .bfloat16 import from_bfloat16_bits, to_bfloat16_bits

FloatArray = npt.NDArray[np.float32]


class MemoryStore(Protocol):
    """Where memory features are kept; what it returns for them is its own affair."""

    def keep(self, outputs: Mapping[str, Any]) -> Sequence[Any | None]:
        """Keep the memory encoder's outputs, one for each object; None if it is not finite."""

    def gather(self, rows: Sequence[Sequence[Any]]) -> Any:
        """Return what was kept as the memory attention takes it, ``[B, F, M, H, W]``."""

    def to_host(self, kept: Any) -> npt.NDArray[Any]:
        """Return what was kept as an array ``[M, H, W]``, of float32 or of bfloat16 bits."""

    def from_host(self, array: npt.NDArray[Any]) -> Any:
        """Keep what :meth:`to_host` returned, or float32."""


class HostMemories:
    """Memory features in host memory as bfloat16 bits, as upstream keeps them."""

    def keep(self, outputs: Mapping[str, Any]) -> list[npt.NDArray[np.uint16] | None]:
        """See :class:`MemoryStore`."""
        rows = np.asarray(outputs["memory"])
        return [to_bfloat16_bits(row) if np.isfinite(row).all() else None for row in rows]

    def gather(self, rows: Sequence[Sequence[npt.NDArray[np.uint16]]]) -> FloatArray:
        """See :class:`MemoryStore`; bits are widened straight into the result."""
        result = np.empty((len(rows), len(rows[0]), *rows[0][0].shape), np.float32)
        for places, row in zip(result, rows, strict=True):
            for place, bits in zip(places, row, strict=True):
                from_bfloat16_bits(bits, place)
        return result

    def to_host(self, kept: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
        """See :class:`MemoryStore`."""
        return kept

    def from_host(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
        """See :class:`MemoryStore`."""
        return array if array.dtype == np.uint16 else to_bfloat16_bits(array)


@dataclass
class MemoryEntry:
    """What one frame says about one object.

    Attributes:
        mask_logits: float32 ``[S / 4, S / 4]``, the chosen mask.
        pointer: float32 ``[C]``, the object pointer.
        object_score: logit; above 0 the object is visible.
        memory: memory features ``[M, H, W]`` as the :class:`MemoryStore` keeps them; None until
            the memory encoder has run.
        finite: False if the model returned numbers that are not finite; such an entry must not
            enter a bank.
    """

    mask_logits: FloatArray
    pointer: FloatArray
    object_score: float
    memory: Any | None = None
    finite: bool = True


@dataclass(frozen=True)
class MemorySelection:
    """The memories and pointers that one frame attends to, oldest upstream order kept.

    Attributes:
        memories: entries whose memory features are used.
        memory_tpos: for each, its row in the table of temporal codes.
        pointers: object pointers ``[C]``.
        pointer_tpos: for each, its temporal distance divided by the largest one.
    """

    memories: tuple[MemoryEntry, ...]
    memory_tpos: tuple[int, ...]
    pointers: tuple[FloatArray, ...]
    pointer_tpos: tuple[float, ...]

    @property
    def signature(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Objects with equal signatures can be tracked in one batch."""
        return self.memory_tpos, self.pointer_tpos


@dataclass
class MemoryBank:
    """All entries of one object, by frame number.

    Attributes:
        conditioning: frames with prompts; they are kept.
        tracked: frames that were tracked, or corrected after they had been tracked.
    """

    conditioning: dict[int, MemoryEntry] = field(default_factory=dict)
    tracked: MutableMapping[int, MemoryEntry] = field(default_factory=dict)

    def get(self, frame_index: int) -> MemoryEntry | None:
        """Return the entry of a frame, prompted or tracked."""
        return self.conditioning.get(frame_index) or self.tracked.get(frame_index)

    def forget(self, frame_index: int, rules: TrackingRules, max_conditioning: int) -> None:
        """Drop what neither a correction of the newest frame nor any later frame can use.

        Args:
            frame_index: the newest frame of a forward stream.
            rules: how far back memories and pointers reach.
            max_conditioning: prompted frames to keep: the first and the latest ones.
        """
        stride = rules.memory_temporal_stride_for_eval
        memory_reach = (rules.num_maskmem - 1) * stride
        for index in [i for i in self.tracked if i < frame_index]:
            age = frame_index - index
            if age > max(memory_reach, rules.max_obj_ptrs_in_encoder - 1):
                del self.tracked[index]
            elif age > memory_reach:
                # A new entry: others may hold the old one, to go back to it if the frame fails.
                self.tracked[index] = replace(self.tracked[index], memory=None)
        surplus = max(len(self.conditioning) - max_conditioning, 0)
        for index in sorted(self.conditioning)[1 : surplus + 1]:
            del self.conditioning[index]


def select_memories(
    bank: MemoryBank,
    frame_index: int,
    rules: TrackingRules,
    *,
    conditioning_tpos: int | None = None,
    reverse: bool = False,
    num_frames: int | None = None,
) -> MemorySelection:
    """Choose what ``frame_index`` attends to.

    Args:
        bank: the object's memory, with at least one prompted frame.
        frame_index: the frame to be tracked.
        rules: the model's flags, perhaps with fewer memory frames than it was trained with.
        conditioning_tpos: row of the temporal codes for prompted frames, the last one of the
            table; default: ``num_maskmem - 1``.
        reverse: tracking towards earlier frames.
        num_frames: length of the video; None for a stream.
    """
    selected, unselected = closest_conditioning(
        bank.conditioning, frame_index, rules.max_cond_frames_in_attn
    )
    if conditioning_tpos is None:
        conditioning_tpos = rules.num_maskmem - 1
    pairs = [(conditioning_tpos, entry) for entry in selected.values()]
    for age in range(rules.num_maskmem - 1, 0, -1):
        index = _memory_frame(frame_index, age, rules, reverse)
        entry = bank.tracked.get(index) or unselected.get(index)
        if entry is not None and entry.memory is not None:
            pairs.append((age - 1, entry))
    pointers = _select_pointers(bank, selected, unselected, frame_index, rules, reverse, num_frames)
    return MemorySelection(
        memories=tuple(entry for _, entry in pairs),
        memory_tpos=tuple(tpos for tpos, _ in pairs),
        pointers=tuple(entry.pointer for _, entry in pointers),
        pointer_tpos=tuple(distance for distance, _ in pointers),
    )


def _memory_frame(frame_index: int, age: int, rules: TrackingRules, reverse: bool) -> int:
    """Return the frame that is ``age`` memories back: the last one, else every stride-th."""
    stride = rules.memory_temporal_stride_for_eval
    if age == 1:
        return frame_index + 1 if reverse else frame_index - 1
    if reverse:
        return -(-(frame_index + 2) // stride) * stride + (age - 2) * stride
    return (frame_index - 2) // stride * stride - (age - 2) * stride


def _select_pointers(
    bank: MemoryBank,
    selected: dict[int, MemoryEntry],
    unselected: dict[int, MemoryEntry],
    frame_index: int,
    rules: TrackingRules,
    reverse: bool,
    num_frames: int | None,
) -> list[tuple[float, MemoryEntry]]:
    limit = rules.max_obj_ptrs_in_encoder
    if num_frames is not None:
        limit = min(num_frames, limit)
    sign = -1 if reverse else 1
    found: list[tuple[int, MemoryEntry]] = []
    for index, entry in selected.items():
        distance = (frame_index - index) * sign
        if distance < 0 and rules.only_obj_ptrs_in_the_past_for_eval:
            continue
        signed = rules.use_signed_tpos_enc_to_obj_ptrs
        found.append((distance if signed else abs(distance), entry))
    for distance in range(1, limit):
        index = frame_index - distance * sign
        # A stream may go on from an earlier one, whose frames have negative numbers.
        if num_frames is not None and not 0 <= index < num_frames:
            break
        other = bank.tracked.get(index) or unselected.get(index)
        if other is not None:
            found.append((distance, other))
    # One frame has no other to be distant from; upstream would divide by zero.
    largest = np.float32(max(limit - 1, 1))
    return [(float(np.float32(distance) / largest), entry) for distance, entry in found]


def closest_conditioning(
    entries: dict[int, MemoryEntry], frame_index: int, limit: int
) -> tuple[dict[int, MemoryEntry], dict[int, MemoryEntry]]:
    """Split prompted frames into the ``limit`` closest in time and the others.

    The closest before and the closest after (or at) the frame come first; -1 is no limit.
    """
    if limit == -1 or len(entries) <= limit:
        return dict(entries), {}
    chosen: list[int] = []
    before = max((t for t in entries if t < frame_index), default=None)
    after = min((t for t in entries if t >= frame_index), default=None)
    chosen += [t for t in (before, after) if t is not None]
    others = sorted((t for t in entries if t not in chosen), key=lambda t: abs(t - frame_index))
    chosen += others[: max(limit - len(chosen), 0)]
    return (
        {t: entries[t] for t in chosen},
        {t: entry for t, entry in entries.items() if t not in chosen},
    )


def stack_memories(
    selections: list[MemorySelection], width: int, store: MemoryStore | None = None
) -> dict[str, Any]:
    """Return the inputs of the memory attention for objects of equal signature.

    Args:
        selections: of the objects.
        width: length ``C`` of a pointer.
        store: which keeps the memory features; default: :class:`HostMemories`.

    Returns:
        ``memory`` float32 ``[B, F, M, H, W]``, ``memory_tpos`` int64 ``[F]``, ``pointers`` float32
        ``[B, N, C]``, ``pointer_tpos`` float32 ``[N]``.
    """
    first = selections[0]
    rows = [[entry.memory for entry in s.memories if entry.memory is not None] for s in selections]
    pointers = np.asarray([list(s.pointers) for s in selections], np.float32)
    return {
        "memory": (store or HostMemories()).gather(rows),
        "memory_tpos": np.asarray(first.memory_tpos, np.int64),
        "pointer_tpos": np.asarray(first.pointer_tpos, np.float32),
        "pointers": pointers.reshape(len(selections), len(first.pointers), width),
    }
