"""What a model.onnx is: reading, checking and caching it; imports onnx_graph."""
