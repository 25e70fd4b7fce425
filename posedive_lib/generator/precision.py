"""Mixed precision: bfloat16 where it is asked for, or where the processor computes it natively."""

import torch

from posedive_lib.errors import StudyError
from posedive_lib.precision import computes_bfloat16


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context of `precision` "no", "bf16" or "auto" (bf16 where `computes_bfloat16`). Weights and optimiser stay float32."""
    if precision not in ("no", "bf16", "auto"):
        raise StudyError(f"generator.mixed_precision is {precision!r}: choose no, bf16 or auto.")
    enabled = precision == "bf16" or (precision == "auto" and computes_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
