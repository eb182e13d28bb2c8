"""Making a model.engine of a model.onnx, and trying it out; imports engines and tracking."""
