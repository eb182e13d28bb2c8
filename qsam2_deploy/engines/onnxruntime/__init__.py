"""ONNX Runtime: on a CPU, with operators of our own, and on a GPU."""
