"""Frames of videos, folders, images and cameras."""
