"""Clicks, boxes and masks from a command line or a file."""
