"""Sources of encoded images, and their decoder; both raise `DataError` for images that cannot be read."""
