"""Studies of the paper that can be repeated with one command."""
