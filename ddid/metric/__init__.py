"""Pure tensors, no files: distances, losses, and the ranking protocol."""
