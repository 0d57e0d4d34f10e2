"""Checks of a run before it starts: data, machine, a dry run, and an estimate of its time."""
