"""What several rooms share and no library has: files, progress, versions. Imports only errors."""
