"""The loop and what is kept of it: state, log, curves, validation."""
