"""What is trained: the model over a clip, losses, a teacher, quantizers."""
