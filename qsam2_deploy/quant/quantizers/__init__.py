"""Grids, and one file for each quantizer; nothing of the other folders."""
