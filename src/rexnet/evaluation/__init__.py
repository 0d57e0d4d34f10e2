"""Evaluation of classifiers: inference, results, comparison, calibration, error grids and heat maps."""
