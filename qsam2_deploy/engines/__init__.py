"""What runs a component, one folder per engine; imports model_file, lowering and onnx_graph."""
