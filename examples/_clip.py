"""The clip that ships with the demo, with its exact masks; ``make_demo_clip.py`` draws it."""

from __future__ import annotations

from pathlib import Path

_ASSETS = Path(__file__).parents[1] / "assets"

VIDEO = _ASSETS / "demo_clip.mp4"
MASKS = _ASSETS / "demo_clip_masks"
"""One PNG per frame: 1 where the fish to track is seen."""

FPS = 24.0

CLICK = "3:88,180"
"""On the fish in the first frame. As object 3 it is drawn in green, which stands out on orange."""
