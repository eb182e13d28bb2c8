"""Videos with masks: readers, generated clips, and the samples that training and scoring share."""
