"""Reading an ONNX graph: who makes what, which products are quantized. Imports ``spec`` at most."""
