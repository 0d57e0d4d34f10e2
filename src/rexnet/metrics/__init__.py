"""Accuracy, calibration and their statistics as pure functions of logits and labels."""
