"""Reports of runs as self-contained HTML files."""
