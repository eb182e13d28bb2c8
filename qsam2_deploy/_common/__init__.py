"""What several rooms share and no library has: files, progress, versions; imports errors."""
