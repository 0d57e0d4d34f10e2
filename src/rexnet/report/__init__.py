"""One HTML file that shows what a run was and what it was worth, without a server and without the network."""
