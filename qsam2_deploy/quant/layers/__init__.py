"""Layers and attention products with quantizers, and the plan of their widths."""
