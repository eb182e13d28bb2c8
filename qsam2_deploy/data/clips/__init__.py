"""Clips for training: cut, pasted and mixed from sequences of any kind."""
