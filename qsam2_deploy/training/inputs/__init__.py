"""Clips, prompts and batches: what a step of training gets."""
