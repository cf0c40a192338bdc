"""`eigenview cache`: the decoded images that are kept from one run to the next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import tyro

from eigenview import runfiles
from eigenview.commands.options import parse
from eigenview.data.pixels.cache import cache_folder
from eigenview.data.pixels.eviction import cache_entries, delete_entry, limit_bytes
from eigenview.terminal import write


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Decoded images that are kept: list them, or clear them. EIGENVIEW_CACHE is the folder, EIGENVIEW_CACHE_GB its
    limit."""

    action: tyro.conf.Positional[Literal["list", "clear"]]
    """list: each entry, its size and when it was last used; clear: delete all that no running process uses."""


def main(args: list[str]) -> int:
    """List or clear the cache."""
    options: Cache = parse(Cache, args, "cache")
    folder = cache_folder()
    limit, entries = limit_bytes(), cache_entries(folder)
    total = sum(entry.num_bytes for entry in entries)
    if options.action == "list":
        for entry in entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            write(f"{entry.num_bytes / 1e6:12,.1f} MB  {used}  {entry.name}")
        write(f"{folder}: {len(entries)} entries, {total / 1e9:.2f} GB of at most {limit / 1e9:g}")
        return 0
    for each in (folder, folder / "probes"):
        runfiles.delete_abandoned(each)
    deleted = [entry for entry in entries if delete_entry(entry)]
    write(f"{folder}: {len(deleted)} entries deleted, {sum(entry.num_bytes for entry in deleted) / 1e9:.2f} GB")
    if len(deleted) < len(entries):
        write(f"{len(entries) - len(deleted)} entries are in use by a running process, or cannot be deleted, and stay")
    return 0
