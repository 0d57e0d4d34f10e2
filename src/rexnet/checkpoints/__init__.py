"""Checkpoint contents, durable writing, and the temperature stored next to a checkpoint."""
