"""Images in object stores, by ranged reads through `obstore`."""
