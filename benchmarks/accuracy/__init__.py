"""Masks and numbers: against the official predictor, ground truth, and other methods."""
