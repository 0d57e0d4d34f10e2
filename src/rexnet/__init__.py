"""ReXNet image classifiers: train, fine-tune and evaluate them with PyTorch Lightning."""

__version__ = "0.1.0"
