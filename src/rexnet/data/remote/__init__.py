"""Images in object stores, read in byte ranges through `obstore`."""
