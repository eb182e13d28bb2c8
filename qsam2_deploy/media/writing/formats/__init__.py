"""One file for each form of results that other tools read; found by its name."""
