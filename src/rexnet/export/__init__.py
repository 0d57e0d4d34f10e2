"""Exports trained classifiers for other programs, and compares each file with the network it came from."""

import os

# Without this, ONNX Runtime 1.31 on Linux stores a device ID in ~/.cache and sends events to its makers when imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
