"""Where a run ran: what someone needs to repeat it."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import eigenview
from eigenview.config import method_name, to_dict
from eigenview.engine.plan import Plan
from eigenview.recipes import default


def describe_environment(command: list[str], plan: Plan) -> dict[str, Any]:
    """environment.json of runfiles."""
    gpu = plan.device.type == "cuda"
    return {
        "eigenview": eigenview.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(0) if gpu else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "commit": source_commit(),
        "command": command,
        "pixels": plan.train.reading.as_json(),
        "defaults": to_dict(default(method_name(plan.config.method), plan.config.data).decided()),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def source_commit() -> str | None:
    """The commit of the eigenview checkout in use, with + when it has uncommitted changes; None where installed."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
        )
        inside = subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name], cwd=here, capture_output=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if described.returncode or inside.returncode:  # no checkout, or installed inside somebody else's
        return None
    return described.stdout.strip()
