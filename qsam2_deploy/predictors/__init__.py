"""What users hold: the segmenter and the drop-in predictors. Imports `engines` and `tracking`."""
