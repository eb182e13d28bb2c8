"""Time, memory and size: of frames, components, openings, and steps of a training."""
