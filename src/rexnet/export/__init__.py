"""Trained classifiers as files for other programs, each measured against the network it came from."""

import os

# Else ONNX Runtime 1.31 on Linux, once imported, keeps a device ID in ~/.cache and sends events to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
