"""Evaluation of classifiers: inference, results, comparison, calibration, soups and error grids."""
