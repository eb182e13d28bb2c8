"""What users hold: segmenter and drop-in predictors; imports tracking, media and engines."""
