"""Readers of DAVIS, SA-V, sets of images, and photos."""
