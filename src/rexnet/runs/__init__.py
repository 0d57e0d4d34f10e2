"""Run folders: creating, reading and listing them, their state and checkpoints, and the rules of resuming."""
