"""Which floating-point formats the processor at hand computes natively."""

import torch


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native here: Ampere and later GPUs, CPUs with AVX512-BF16 or AMX. Elsewhere it is slower than float32, on CPUs many times."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
