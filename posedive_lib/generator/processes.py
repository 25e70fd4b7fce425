"""The processes that work together: one, or those that `accelerate launch` started, each with its own GPU if there are any."""

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Number, index and device of this process among them."""
    return PartialState(cpu=not torch.cuda.is_available())
