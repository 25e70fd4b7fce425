"""Mixed precision: bfloat16 where it is asked for, or where the processor computes it natively."""

import torch

from posedive_lib.errors import StudyError


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context of `precision` "no", "bf16" or "auto" (bf16 where `computes_bfloat16`). Weights and optimiser stay float32."""
    if precision not in ("no", "bf16", "auto"):
        raise StudyError(f"generator.mixed_precision is {precision!r}: choose no, bf16 or auto.")
    enabled = precision == "bf16" or (precision == "auto" and computes_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native here: Ampere and later GPUs, CPUs with AVX512-BF16 or AMX. Elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
