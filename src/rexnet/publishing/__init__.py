"""A trained network as a folder to hand on: `rexnet publish`."""
