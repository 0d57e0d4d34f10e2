"""Object detection on ReXNet and timm backbones: boxes, detectors, training and results."""
