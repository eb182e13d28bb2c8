"""Masks of everything in a picture: points, crops, filters, run lengths; imports data."""
