"""Object detection: torchvision's detectors with the backbones, training loop and run folders of this package."""
