"""How good a classifier is: counts, not averages of averages."""
