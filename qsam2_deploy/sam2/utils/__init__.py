"""What scripts import from ``sam2.utils``."""
