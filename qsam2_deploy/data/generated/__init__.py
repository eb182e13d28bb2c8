"""Endless generated clips: textured objects that move, deform and hide each other."""

from __future__ import annotations

from .clips import GeneratedClips
from .config import GeneratedClipsConfig

__all__ = ["GeneratedClips", "GeneratedClipsConfig"]
