"""Pure tensors, no files: distances, losses, ranking."""
