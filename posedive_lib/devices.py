"""Devices, processes, and the precision of the arithmetic on them."""

from datetime import timedelta

import torch
from accelerate import PartialState

from posedive_lib.errors import StudyError

# The words of generator.precision and reid.precision; beside them `auto`, see `chosen_precision`.
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

# The first process of a launch may write a large data set or join its arrays; the others wait.
PATIENCE = timedelta(hours=6)


def checked_device(device: str | torch.device) -> torch.device:
    """The torch device of that name; StudyError where this machine or this torch has none."""
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:  # a torch without CUDA asserts
        raise StudyError(
            f"There is no device {str(device)!r} here ({str(error).splitlines()[0]}): "
            "choose another, such as cpu."
        ) from None


def processes() -> PartialState:
    """The processes that work together: number, index and device of this one among them.

    One process, or those that `accelerate launch` started, each with its own GPU if there are any.
    """
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 natively; where it does not, float32 is faster.

    Native: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(
        getattr(torch.cpu, name, bool)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )


def chosen_precision(device: torch.device, precision: str, parameter: str) -> str:
    """fp32, bf16 or fp16: `precision` itself, or what `auto` means on the device.

    auto: bf16 where the device computes it natively, else fp32. fp16 needs a GPU.
    parameter: its name in params.yaml, for the StudyError on anything else.
    """
    if precision not in (*PRECISIONS, "auto"):
        raise StudyError(
            f"{parameter} is {precision!r}: choose one of auto, {', '.join(PRECISIONS)}."
        )
    if precision == "fp16" and device.type == "cpu":
        raise StudyError(f"{parameter} fp16 needs a GPU: write auto to compute on the CPU.")
    if precision == "auto":
        return "bf16" if computes_bfloat16(device) else "fp32"
    return precision


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context of a `chosen_precision`; weights and the optimiser's state stay float32."""
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)
