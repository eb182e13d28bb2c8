"""Hostile calls of the CPU kernels, built with AddressSanitizer and UndefinedBehaviorSanitizer."""
