"""Probes of features that many runs share, raw pixels and an untrained encoder: computed once, kept in a folder.

An entry is named after everything that decides its numbers: both sets of features and labels, the probe and its
settings, the seed, the source of this package and the versions of the libraries that compute. So it is never stale, and
whoever distrusts it deletes the folder. It is a small JSON file, written whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
import torch

from eigenview import runfiles
from eigenview.config import ProbeConfig

Numbers = dict[str, float]


@cache
def program() -> str:
    """A fingerprint of what computes the probes."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for library in (np, scipy, sklearn, torch):
        digest.update(f"{library.__name__} {library.__version__} ".encode())
    return digest.hexdigest()


def fingerprint(arrays: tuple[np.ndarray, ...]) -> str:
    """A fingerprint of features and labels: shapes, types and every byte."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def cached(
    compute: Callable[[], Numbers], folder: Path | None, data: str, column: str, config: ProbeConfig, seed: int
) -> Numbers:
    """The numbers of a probe on `data`, its fingerprint and number of classes: from `folder`, else computed and kept.

    Without a folder, and where it cannot be read or written, they are computed.
    """
    if folder is None:
        return compute()
    settings = json.dumps([data, column, asdict(config), seed, program()])
    path = folder / f"{hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()}.json"
    kept = _read(path, column)
    if kept is not None:
        return kept
    numbers = compute()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        runfiles.write_json(path, numbers)
    return numbers


def _read(path: Path, column: str) -> Numbers | None:
    """The entry, or None where there is none or it is not what `cached` writes."""
    try:
        kept: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(kept, dict) and column in kept
    return kept if is_whole and all(isinstance(v, float) and math.isfinite(v) for v in kept.values()) else None
