"""This process's place among those that torchrun, SLURM or `engine/launch.py` started. Free of torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass


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
        address, port = env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", "29500"))
        number = int(env["RANK"])
        return Launched(number, int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", number)), address, port)
    if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and "SLURM_PROCID" in env:
        first = re.match(r"([^,\[]+)(?:\[(\d+))?", env.get("SLURM_STEP_NODELIST", "127.0.0.1"))
        address = "".join(part or "" for part in first.groups()) if first else "127.0.0.1"
        port = 15000 + int(env.get("SLURM_JOB_ID", "0")[-4:])  # the same on all nodes, another for each job
        number, size = int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"])
        return Launched(number, size, int(env.get("SLURM_LOCALID", number)), address, port)
    return None


def launched_rank() -> int:
    """This process's number before there is a process group; 0 if it was started alone."""
    place = launched()
    return 0 if place is None else place.number


def launched_size() -> int:
    """How many processes the launcher started; 1 if this process was started alone."""
    place = launched()
    return 1 if place is None else place.size
