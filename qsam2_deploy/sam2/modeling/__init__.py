"""What scripts import from ``sam2.modeling``: names for annotations."""
