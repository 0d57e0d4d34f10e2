"""Training: losses, optimizer, schedule, EMA, skipped steps, callbacks, resume, and `train`, which runs them."""
