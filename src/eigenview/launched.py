"""This process's place among those that torchrun, SLURM or `engine/launch.py` started. Free of torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from eigenview.errors import require


@dataclass(frozen=True)
class Launched:
    """What a launcher says about this process."""

    number: int
    size: int
    local: int
    address: str
    port: int


def launched(env: Mapping[str, str] = os.environ) -> Launched | None:
    """This process's place among those of torchrun or SLURM's srun; None if it was started alone."""
    if "RANK" in env and "WORLD_SIZE" in env:
        size = _number(env, "WORLD_SIZE", 1)
        number = _number(env, "RANK", 0, size - 1)
        local = _number(env, "LOCAL_RANK", 0, size - 1, default=number)
        address, port = env.get("MASTER_ADDR", "127.0.0.1"), _number(env, "MASTER_PORT", 1, 65535, default=29500)
        return Launched(number, size, local, address, port)
    size = _number(env, "SLURM_STEP_NUM_TASKS", 1, default=1)
    if size > 1 and "SLURM_PROCID" in env:
        first = re.match(r"([^,\[]+)(?:\[(\d+))?", env.get("SLURM_STEP_NODELIST", "127.0.0.1"))
        address = "".join(part or "" for part in first.groups()) if first else "127.0.0.1"
        port = (
            15000 + _number(env, "SLURM_JOB_ID", 0, default=0) % 10_000
        )  # the same on all nodes, another for each job
        number = _number(env, "SLURM_PROCID", 0, size - 1)
        return Launched(number, size, _number(env, "SLURM_LOCALID", 0, size - 1, default=number), address, port)
    return None


def _number(env: Mapping[str, str], name: str, least: int, most: int | None = None, default: int | None = None) -> int:
    """A launcher's variable; `default` if it is not set. Raises UserError for anything but a number in the range."""
    if default is not None and name not in env:
        return default
    text = env[name]
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1
    allowed = f"a whole number, {least} or more" + ("" if most is None else f", up to {most}")
    advice = "Launchers (torchrun, SLURM) set it: start with one of them, or unset it for a run on one process."
    require(least <= number and (most is None or number <= most), f"the variable {name}", text, allowed, advice)
    return number


def launched_rank() -> int:
    """This process's number before there is a process group; 0 if it was started alone."""
    place = launched()
    return 0 if place is None else place.number


def launched_size() -> int:
    """How many processes the launcher started; 1 if this process was started alone."""
    place = launched()
    return 1 if place is None else place.size
