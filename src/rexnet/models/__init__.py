"""Networks: tensors in, tensors out. Nothing here knows of training."""

from rexnet.models.backbone import Backbone
from rexnet.models.factory import rexnet  # after the module of this name, so that the function is what one gets
from rexnet.models.folding import fold_batchnorm

__all__ = ["Backbone", "fold_batchnorm", "rexnet"]
