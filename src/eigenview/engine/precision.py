"""Which precision this machine gains from, with the reason to print."""

from __future__ import annotations

from typing import Literal

import torch


def choose_precision(asked: Literal["auto", "bf16", "fp32"], device: torch.device) -> tuple[str, str]:
    """Lightning's precision name and a word why. The objective computes in float32 in either case.

    On a CPU bfloat16 pays only where the instruction set has it (AVX512-BF16 or AMX); elsewhere it is emulated.
    """
    if asked == "fp32":
        return "32-true", "fp32"
    if asked == "bf16":
        return "bf16-mixed", "bf16"
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16-mixed", "bf16"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16-mixed", "bf16"
    return "32-true", "fp32"
