"""What the machine itself can do: matrix products and a copy, measured before anything else."""

from __future__ import annotations

import torch

from benchmarks.contest import Settings, seconds
from eigenview.engine.precision import runs_in_bf16

PRODUCTS = 5  # the best of so many: a ceiling, not an average


def product_rate(settings: Settings, dtype: torch.dtype) -> float:
    """Operations per second of a square matrix product, multiplications and additions counted apart."""
    side = settings.pick(64, 512, 8192 if settings.is_cuda else 2048)
    a = torch.randn(side, side, device=settings.device).to(dtype)
    _ = a @ a  # warms up
    return 2 * side**3 / min(seconds(lambda: a @ a, settings.device) for _ in range(PRODUCTS))


def ceilings(settings: Settings) -> list[dict[str, float | int]]:
    """For each number of threads: float32 product and, where the machine has it, bfloat16 product in GFLOP/s (10^9
    operations); a copy, bytes read and bytes written added up, in GB/s."""
    has_bf16 = runs_in_bf16("auto", settings.device)
    length = settings.pick(1 << 10, 1 << 24, 1 << 28 if settings.is_cuda else 1 << 24)
    numbers = torch.zeros(length, device=settings.device)
    scratch = torch.zeros_like(numbers)
    lines: list[dict[str, float | int]] = []
    for threads in settings.threads:
        torch.set_num_threads(threads)
        line: dict[str, float | int] = {"threads": threads}
        line["float32_gflops"] = round(product_rate(settings, torch.float32) / 1e9, 1)
        if has_bf16:
            line["bfloat16_gflops"] = round(product_rate(settings, torch.bfloat16) / 1e9, 1)
        copy = min(seconds(lambda: scratch.copy_(numbers), settings.device) for _ in range(PRODUCTS))
        lines.append(line | {"copy_gb_s": round(2e-9 * numbers.nbytes / copy, 1)})
    return lines
