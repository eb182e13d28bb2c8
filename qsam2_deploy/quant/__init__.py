"""Grids, quantizers, quantized layers, and the checkpoints that hold them; needs torch."""
