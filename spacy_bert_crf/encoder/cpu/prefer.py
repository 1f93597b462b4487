"""Makes a model's modules faster on CPUs, where their class is known."""

from torch import nn

from .bert_training import prefer_training
from .dropout import CpuDropout
from .fused import is_bert_layer
from .linear import CpuLinear


def prefer_cpu(model: nn.Module) -> None:
    """Make the modules of a model faster on CPUs, in place. Weights do not change.

    Plain linear layers become CpuLinear, and plain dropouts CpuDropout. BERT's layers train by
    TrainedBertLayer. Results are the same, except for rounding and for which elements are dropped.

    model: in evaluation mode.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = CpuLinear
        elif type(module) is nn.Dropout:
            module.__class__ = CpuDropout
    for module in model.modules():
        if is_bert_layer(module):
            prefer_training(module)
