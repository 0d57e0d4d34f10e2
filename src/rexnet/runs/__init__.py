"""Run folders: what lies in one, its state, its checkpoints, how it goes on, and all of them in a table."""
