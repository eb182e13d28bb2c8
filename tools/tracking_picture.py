"""The picture of README.md: frames of the clip that ``make demo`` tracked with the W8A8 model.

make demo && python -m tools.tracking_picture   write docs/tracking.webp
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from qsam2_deploy.media.reading.sources import open_indexed

ROOT = Path(__file__).parents[1]
OVERLAY = ROOT / "demo_output/quantized/overlay.mp4"
PICTURE = ROOT / "docs/tracking.webp"

FRAMES = (0, 36, 72)
"""The fish free, half behind the column, and past it."""

TILE = (512, 288)
GAP = 4


def strip(video: Path) -> Image.Image:
    """Return the frames side by side."""
    width, height = TILE
    columns = len(FRAMES)
    picture = Image.new("RGB", (columns * width + (columns - 1) * GAP, height), "white")
    with open_indexed(video) as frames:
        for column, number in enumerate(FRAMES):
            tile = Image.fromarray(frames[number]).resize(TILE, Image.Resampling.LANCZOS)
            picture.paste(tile, (column * (width + GAP), 0))
    return picture


def main() -> int:
    """Write the picture; returns the exit status."""
    if not OVERLAY.exists():
        print(f"there is no {OVERLAY.relative_to(ROOT)}; run 'make demo' first")
        return 2
    strip(OVERLAY).save(PICTURE, quality=85, method=6)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
