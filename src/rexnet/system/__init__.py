"""The machine and its operating system: devices, resources, launchers, terminal and atomic files."""
