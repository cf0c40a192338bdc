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


def test_a_peak_is_known_where_the_high_water_mark_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    monkeypatch.setattr(memory, "MAPPINGS", tmp_path / "smaps")
    peak = memory.PeakMemory(torch.device("cpu"))
    peak.begin()
    assert peak.read(present=0) is None  # no such file: not Linux
    assert memory.process_bytes() is None
    (tmp_path / "status").write_text("Name:\tx y\nVmHWM:\t  700 kB\nVmRSS:\t  500 kB\n")
    peak.begin()
    assert peak.read(present=0) is None  # an earlier moment was fuller
    (tmp_path / "status").write_text("Name:\tx y\nVmHWM:\t  900 kB\nVmRSS:\t  500 kB\n")
    assert peak.read(present=0) == 900 * 1024
    (tmp_path / "smaps").write_text(
        "7f0-7f1 rw-p 00000000 00:00 0 \nSize: 300 kB\nRss: 300 kB\n"
        "7f1-7f2 rw-p 00000000 08:01 5 /a b/x.npy\nSize: 100 kB\nRss:   64 kB\nPss: 7 kB\n"
        "7f2-7f3 r--p 00000000 08:01 6 /lib/y.so\nRss: 32 kB\n"
        "7f3-7f4 rw-p 00001000 08:01 5 /a b/x.npy\nRss:    8 kB\n"
    )
    assert peak.read(present=0, mapped=[Path("/a b/x.npy")]) == (900 - 64 - 8) * 1024
    assert memory.process_bytes([Path("/a b/x.npy")]) == (500 - 64 - 8) * 1024


def test_pages_of_a_mapped_file_are_told_apart(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(1 << 20, np.uint8))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="c")
    before = memory.mapped_bytes([tmp_path / "a.npy"])
    assert int(mapped.sum()) == 1 << 20
    assert memory.mapped_bytes([tmp_path / "a.npy"]) - before >= (1 << 20) - (1 << 16)


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
