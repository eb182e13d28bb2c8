"""Videos with masks: readers, generated clips, samples for training and scoring; no room at all."""
