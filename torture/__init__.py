"""What happens to a run when everything goes wrong: `make torture` runs all cases and writes the table."""
