"""Cache of the probes on features that many runs share: raw pixels and an untrained encoder.

The name of an entry is a hash of everything its numbers depend on: both sets of features and labels, the probe and its
settings, the seed, the source of this package and the versions of the numerical libraries. Entries are therefore never
out of date; the folder can be deleted at any time. Each is a small JSON file, written atomically.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from eigenview import runfiles
from eigenview.config import ProbeConfig

Numbers = dict[str, float]


@cache
def program() -> str:
    """A hash of the code that computes the probes and of the versions of its libraries."""
    digest = hashlib.blake2b(digest_size=16)
    probes = Path(__file__).parent
    for path in sorted((*probes.glob("*.py"), *(probes.parent / "functional").glob("*.py"))):
        digest.update(path.read_bytes())
    for library in ("numpy", "scipy", "scikit-learn", "torch"):
        digest.update(f"{library} {version(library)} ".encode())
    return digest.hexdigest()


def fingerprint(arrays: tuple[np.ndarray, ...]) -> str:
    """A hash of features and labels: shapes, types and every byte."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def cached(
    compute: Callable[[], Numbers], folder: Path | None, data: str, column: str, config: ProbeConfig, seed: int
) -> Numbers:
    """The numbers of a probe: read from `folder` if they are there, else computed and stored.

    `data` identifies features, labels and number of classes. With `folder` None, or one that cannot be read or written,
    the numbers are computed.
    """
    if folder is None:
        return compute()
    settings = json.dumps([data, column, asdict(config), seed, program()])
    path = folder / f"{hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()}.json"
    stored = _read(path, column)
    if stored is not None:
        return stored
    numbers = compute()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        runfiles.write_json(path, numbers)
    return numbers


def _read(path: Path, column: str) -> Numbers | None:
    """The entry; None if there is none, or if it is damaged."""
    try:
        entry: Any = runfiles.parse_json(runfiles.read_regular(path))
    except (OSError, ValueError):
        return None
    has_column = isinstance(entry, dict) and column in entry
    return entry if has_column and all(isinstance(v, float) and math.isfinite(v) for v in entry.values()) else None
