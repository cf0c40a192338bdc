"""Cache of the probes on features that many runs share: raw pixels and the encoder that a run started from.

The name of an entry is a hash of everything its answers depend on: both sets of features and labels, the probe and its
settings, the seed, the source of this package and the versions of the numerical libraries. Entries are therefore never
out of date; the folder can be deleted at any time. Each is a small JSON file with a checksum, written atomically, and
holds a bit for each draw of the labels and each test image: whether it was classified correctly.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from eigenview import runfiles
from eigenview.config import ProbeConfig
from eigenview.errors import UserError
from eigenview.runfiles.schema import TEXT, Fields, integer

VERSION = 2  # entries of version 1 held accuracies
ENTRY = Fields(required={"draws": integer(1), "images": integer(1), "right": TEXT})


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


def fingerprint(arrays: Iterable[np.ndarray | None]) -> str:
    """A hash of features, labels and files: shapes, types and every byte."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        if array is None:
            continue
        digest.update(f"{array.shape} {array.dtype.str} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def cached(
    compute: Callable[[], np.ndarray], folder: Path | None, data: str, column: str, config: ProbeConfig, seed: int
) -> np.ndarray:
    """bool (R, M), which test rows a probe got right: read from `folder` if they are there, else computed and stored.

    `data` identifies features, labels and number of classes. With `folder` None, or one that cannot be read or written,
    the answers are computed.
    """
    if folder is None:
        return compute()
    settings = json.dumps([VERSION, data, column, asdict(config), seed, program()])
    path = folder / f"{hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()}.json"
    stored = _read(path)
    if stored is not None:
        return stored
    right = compute()
    with contextlib.suppress(OSError, UserError):
        folder.mkdir(parents=True, exist_ok=True)
        bits = base64.b64encode(np.packbits(right, axis=-1).tobytes()).decode()
        runfiles.write_object(path, {"draws": right.shape[0], "images": right.shape[1], "right": bits})
    return right


def _read(path: Path) -> np.ndarray | None:
    """The entry; None if there is none, or if it is damaged."""
    try:
        entry = runfiles.read_object(path, ENTRY)
        shape = entry["draws"], -(-entry["images"] // 8)
        packed = np.frombuffer(base64.b64decode(entry["right"], validate=True), np.uint8).reshape(shape)
    except (OSError, ValueError):  # UserError is a ValueError
        return None
    return np.unpackbits(packed, axis=-1, count=entry["images"]).astype(bool)
