"""Grids, fake-quantizers, quantized layers, and the checkpoints that hold them."""
