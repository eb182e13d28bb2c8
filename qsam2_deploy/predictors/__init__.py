"""What users hold: segmenter, drop-in predictors, their states. Imports ``engines``, ``tracking``."""
