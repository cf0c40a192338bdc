"""Free memory and its growth, as read from the system's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eigenview.engine import memory
from eigenview.errors import UserError


def test_free_memory_is_the_machines_or_the_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    assert memory.free_bytes(cpu) is None
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:    4000 kB\n")
    assert memory.free_bytes(cpu) == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1000000\nactive_file 600000\ninactive_file 400000\n")
    assert memory.free_bytes(cpu) == 4000 * 1024
    (tmp_path / "memory.max").write_text("3500000\n")
    assert memory.free_bytes(cpu) == 3_500_000 - 3_000_000 + 1_000_000


def test_growth_is_known_where_the_high_water_mark_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    growth = memory.MemoryGrowth(torch.device("cpu"))
    growth.begin()
    assert growth.read() is None  # no such file: not Linux
    (tmp_path / "status").write_text("Name:\tx y\nVmHWM:\t  700 kB\nVmRSS:\t  500 kB\n")
    growth.begin()
    assert growth.read() is None  # an earlier moment was fuller
    (tmp_path / "status").write_text("Name:\tx y\nVmHWM:\t  900 kB\nVmRSS:\t  500 kB\n")
    assert growth.read() == 400 * 1024


def beyond_any_machine(kind: str) -> None:
    """A real request for an exabyte; a GPU's refusal, which is torch's own class, is made by hand."""
    if kind == "torch":
        torch.empty(2**60, dtype=torch.uint8)
    elif kind == "numpy":
        np.ones(2**60, np.uint8)
    else:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize(("kind", "where"), [("torch", "this machine"), ("numpy", "this machine"), ("cuda", "the GPU")])
def test_too_little_memory_is_said_with_ways_out(kind: str, where: str) -> None:
    with (
        pytest.raises(UserError, match=rf"memory of {where} does not suffice.*--grad-cache-chunk"),
        memory.explain_shortage(),
    ):
        beyond_any_machine(kind)


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), memory.explain_shortage():
        torch.ones(2, 3) @ torch.ones(2, 3)
