"""Which devices this machine has, and which floating-point formats they compute natively."""

import torch

from posedive_lib.errors import StudyError


def checked_device(device: str | torch.device) -> torch.device:
    """The torch device of that name; StudyError where this machine, or this build of torch, has none."""
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # a torch without CUDA asserts
        raise StudyError(
            f"There is no device {str(device)!r} here ({str(error).splitlines()[0]}): choose another, such as cpu."
        ) from None


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is native here: Ampere and later GPUs, CPUs with AVX512-BF16 or AMX. Elsewhere it is slower than float32, on CPUs many times."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(
        getattr(torch.cpu, name, bool)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
