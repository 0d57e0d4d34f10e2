"""Trained classifiers as files for other programs, each measured against the network it came from."""
