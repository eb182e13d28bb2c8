"""Training of SAM2 models, in floats and quantized; imports calibration, quant and data."""
