"""Overlays, masks, numbers and contact sheets, whole or not at all."""
