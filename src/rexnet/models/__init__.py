"""Networks: tensors in, tensors out. Nothing here knows of training."""
