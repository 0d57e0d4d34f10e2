"""Publishes a trained network as a folder with model card and report: `rexnet publish`."""
