"""Programs that make files of this repository from what others publish."""
