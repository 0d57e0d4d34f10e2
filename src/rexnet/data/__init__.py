"""Images on disk to tensors on the device. Everything random is a pure function of (seed, epoch, index)."""
