"""Predictions for images: `rexnet predict` and `rexnet.load(...).predict(...)`."""
