"""Image grids and plots for PNG files and web pages."""
