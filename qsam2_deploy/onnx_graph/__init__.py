"""Reading an ONNX graph: who makes what, shapes, which products are quantized; imports spec."""
