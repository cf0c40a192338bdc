"""Whether this machine gains from bfloat16."""

from __future__ import annotations

from typing import Literal

import torch


def runs_in_bf16(asked: Literal["auto", "bf16", "fp32"], device: torch.device) -> bool:
    """Whether the network runs under bfloat16 autocast. Losses are computed in float32 in either case.

    On a CPU bfloat16 pays only if the instruction set has it (AVX512-BF16 or AMX); otherwise it is emulated.
    """
    if asked != "auto":
        return asked == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
