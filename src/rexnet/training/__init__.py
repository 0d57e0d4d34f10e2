"""A run: module, schedule, averaging, callbacks, and `fit`, which puts them together."""
