"""Random and deterministic transforms, on single images and on batches."""
