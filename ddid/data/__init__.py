"""What is on disk: manifests, data set layouts, the procedural street, images as tensors."""
