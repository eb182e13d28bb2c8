"""Frames of videos, folders, images, streams and cameras."""
