"""Training of SAM2 models: clips with prompts, SAM2's losses, a loop that can be resumed."""
