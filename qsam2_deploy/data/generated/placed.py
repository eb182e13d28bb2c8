"""Bodies placed on the pixels of a clip, ready to be drawn frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._opencv import opencv
from ..changes.affine import Affine, apply, compose, magnification, pixel_matrix, stretch
from ..changes.layers import Box, Coverage, box_between, covered, paint
from ..sample import Frames
from .scene import Body
from .shapes import Piece
from .skins import Skin

Labels = npt.NDArray[np.uint8]  # number of the body that is seen, from 1; 0 is the background
Vector = npt.NDArray[np.float64]

_BITS = 4  # fractional bits of polygon corners
_SKIN_SIDES = (24, 48, 96, 160, 256, 512)

# OpenCV's antialiased polygons reach about 0.7 pixels too far. They are drawn at twice the
# resolution, and this curve takes the remaining third of a pixel off the edge again.
_EXCESS = 96
_EDGE = np.clip((np.arange(256.0) - _EXCESS) * 255 / (255 - _EXCESS), 0, 255).astype(np.uint8)


def fill(outlines: list[npt.NDArray[np.float64]], box: Box) -> Coverage:
    """Return how far each pixel of ``box`` lies within outlines [P, 2], 0 .. 255.

    Where outlines overlap evenly is a hole.
    """
    cv2 = opencv()
    height, width = box.size
    coverage = np.zeros((2 * height, 2 * width), np.uint8)
    corner = np.array([box.x0 + 0.25, box.y0 + 0.25])
    fixed = [((points - corner) * 2 ** (_BITS + 1)).round().astype(np.int32) for points in outlines]
    cv2.fillPoly(coverage, fixed, 255, lineType=cv2.LINE_AA, shift=_BITS)
    halved = cv2.resize(coverage, (width, height), interpolation=cv2.INTER_AREA)
    out: Coverage = cv2.LUT(halved, _EDGE)
    return out


class SkinCache:
    """Skins of one clip as pictures, at the few resolutions in which they are seen."""

    def __init__(self) -> None:
        self._pictures: dict[tuple[int, int], Frames] = {}

    def picture(self, skin: Skin, width: float) -> Frames:
        """Return the skin for a body that shows it ``width`` pixels wide."""
        side = next((s for s in _SKIN_SIDES if s >= 0.8 * width), _SKIN_SIDES[-1])
        key = (id(skin), side)
        if key not in self._pictures:
            self._pictures[key] = skin.image(side)
        return self._pictures[key]


@dataclass(frozen=True)
class PlacedPiece:
    """A piece of a body on the pixels of a clip.

    Attributes:
        piece: the piece.
        skin: its looks.
        matrices: [T, 2, 3] from its coordinates to pixels.
        outlines: [T, P, 2] each, pixels.
        low, high: [T, 2] span of the outlines, pixels.
        widths: [T] how wide the skin is seen, pixels.
    """

    piece: Piece
    skin: Skin
    matrices: Affine
    outlines: tuple[npt.NDArray[np.float64], ...]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    widths: npt.NDArray[np.float64]

    def box(self, time: int, size: tuple[int, int], pad: int) -> Box:
        """Return the pixels that it can touch."""
        return box_between(self.low[time], self.high[time], size, pad)

    def coverage(self, time: int, box: Box, shift: Vector | None = None) -> Coverage:
        """Return how far it covers each pixel of ``box``, moved by ``shift`` pixels."""
        outlines = [outline[time] for outline in self.outlines]
        return fill(outlines if shift is None else [o + shift for o in outlines], box)

    def colours(self, time: int, box: Box, cache: SkinCache) -> Frames:
        """Return the colours [h, w, 3] of its skin in ``box``."""
        cv2 = opencv()
        picture = cache.picture(self.skin, self.widths[time])
        extent = self.piece.extent
        unit = 2 * extent / picture.shape[0]
        matrix = compose(self.matrices[time], stretch(unit, unit, -extent, -extent))
        matrix[:, 2] -= (box.x0, box.y0)
        height, width = box.size
        pixels: Frames = cv2.warpAffine(
            picture, pixel_matrix(matrix), (width, height),
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
        return pixels


def place(body: Body, matrix: Affine, times: slice = slice(None)) -> PlacedBody:
    """Place a body by ``matrix`` [2, 3] from the frame of side 1 to pixels, at ``times``."""
    to_pixels = compose(matrix, body.pose[times])
    return PlacedBody(
        tuple(_placed_piece(piece, body.skins[piece.material], to_pixels, times)
              for piece in body.shape)
    )  # fmt: skip


def _placed_piece(piece: Piece, skin: Skin, to_pixels: Affine, times: slice) -> PlacedPiece:
    matrices = compose(to_pixels, piece.pose[times])
    outlines = tuple(apply(matrices, contour[times]) for contour in piece.contours)
    return PlacedPiece(
        piece=piece,
        skin=skin,
        matrices=matrices,
        outlines=outlines,
        low=np.min([outline.min(1) for outline in outlines], 0),
        high=np.max([outline.max(1) for outline in outlines], 0),
        widths=2 * piece.extent * magnification(matrices),
    )


@dataclass(frozen=True)
class PlacedBody:
    """A body on the pixels of a clip."""

    pieces: tuple[PlacedPiece, ...]

    def draw(
        self,
        frame: Frames,
        labels: Labels | None,
        time: int,
        number: int,
        cache: SkinCache,
        smear: Vector | None = None,
    ) -> None:
        """Paint the body and write its ``number`` where it is seen.

        Args:
            frame: [H, W, 3] uint8, painted on.
            labels: [H, W] uint8, written to.
            time: index of the frame.
            number: of the body in ``labels``.
            cache: pictures of the skins.
            smear: x and y of the motion blur, pixels.
        """
        size = (frame.shape[0], frame.shape[1])
        pad = 1 if smear is None else 2 + int(np.abs(smear).max())
        seen = _Seen(size, len(self.pieces))
        for piece in self.pieces:
            box = piece.box(time, size, pad)
            if box.empty:
                continue
            coverage = piece.coverage(time, box)
            if smear is not None:
                coverage = smeared(coverage, smear)
            paint(frame, box, piece.colours(time, box, cache), coverage)
            if labels is not None:
                seen.add(labels, box, coverage, number)

    def draw_labels(self, labels: Labels, time: int, number: int) -> None:
        """Write ``number`` to ``labels`` [H, W] where the body is seen."""
        size = (labels.shape[0], labels.shape[1])
        seen = _Seen(size, len(self.pieces))
        for piece in self.pieces:
            box = piece.box(time, size, 1)
            if not box.empty:
                seen.add(labels, box, piece.coverage(time, box), number)


class _Seen:
    """What the pieces of one body cover together: two halves of a pixel are a whole one."""

    def __init__(self, size: tuple[int, int], pieces: int) -> None:
        self._total = np.zeros(size, np.uint8) if pieces > 1 else None

    def add(self, labels: Labels, box: Box, coverage: Coverage, number: int) -> None:
        if self._total is not None:
            cv2, total = opencv(), self._total[box.slices]
            rest = cv2.multiply(cv2.bitwise_not(total), cv2.bitwise_not(coverage), scale=1 / 255)
            total[:] = coverage = cv2.bitwise_not(rest)
        labels[box.slices][covered(coverage)] = number


def smeared(image: Coverage, smear: Vector) -> Coverage:
    """Return ``image`` [h, w] blurred along ``smear``, x and y in pixels."""
    cv2 = opencv()
    length = int(np.ceil(np.abs(smear).max())) | 1
    kernel = np.zeros((length, length), np.float32)
    steps = np.linspace(-0.5, 0.5, 2 * length)[:, None] * smear + (length - 1) / 2
    ix, iy = np.clip(np.round(steps), 0, length - 1).astype(int).T
    np.add.at(kernel, (iy, ix), 1.0)
    out: Coverage = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return out
