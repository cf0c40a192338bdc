"""probe_hits.npz: which test images each probe got right, from which intervals are computed and runs are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eigenview.runfiles.names import PROBE_HITS
from eigenview.runfiles.reading import damaged, read_arrays
from eigenview.runfiles.writing import write_arrays

Right = Mapping[str, np.ndarray]
"""Name of a probe -> bool (R, m): whether each of its m test images was classified correctly, in each of R draws."""


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Which of M test images each probe classified correctly, for each row of the probe table."""

    images: str
    """Hash of the test images' files and labels (`images_hash`): the same in runs that were tested on the same ones."""
    labels: np.ndarray
    """int (M,): the test labels."""
    tested: Right
    """Name of a probe -> bool (1, M): the test images it uses, m of them."""
    right: Mapping[str, Right]
    """Row of the table -> name of a probe -> bool (R, m)."""
    files: np.ndarray | None = None
    """int (M,): the file that each test image is a tile or a page of; None: each is a file by itself."""

    def answers(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """`right`, in which every number of a probe is independent of the others.

        Tiles and pages of one file are not, so they become one number: float (R, F) for F files, from which the share
        of images that are right can be resampled. Let file f have n_f images, s_f of them right, n = M / F the mean of
        n_f and p = sum s_f / M the share that is right. The number is

            s_f / n + p (1 - n_f / n).

        Its mean over files is p. Its mean over files that are drawn with replacement is, to first order, the share of
        the images of these files: a file of many images moves numerator and denominator (Cochran 1977, "Sampling
        Techniques", section 6.3). It is linear in s_f, so that differences of two rows are those of their shares. For
        files of as many images each it is the share of the file's images that are right.
        """
        if self.files is None:
            return self.right
        files = {name: np.unique(self.files[tested[0]], return_inverse=True)[1] for name, tested in self.tested.items()}
        return {row: {name: _by_file(each, files[name]) for name, each in of.items()} for row, of in self.right.items()}


def _by_file(right: np.ndarray, file: np.ndarray) -> np.ndarray:
    """float (R, F) from bool (R, M) and the number of each image's file, int (M,)."""
    counts = np.bincount(file)
    sums = np.stack([np.bincount(file, each) for each in right])
    return sums / counts.mean() + right.mean(axis=1, keepdims=True) * (1 - counts / counts.mean())


def images_hash(identities: Sequence[str], labels: np.ndarray, pixels: np.ndarray | None) -> str:
    """32 hexadecimal digits for a set of test images: of their labels and their `identities` (data/identity.py: names,
    sizes and some contents of the files), or of `pixels` for images that come from no files.

    Runs of earlier versions hashed labels and names of files alone. They are compared with each other. Whether a run of
    today was tested on the same images is not known, so that it counts as tested on others.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(labels, np.int64).tobytes(), digest_size=16)
    for identity in identities:
        digest.update(identity.encode(errors="surrogateescape") + b"\0")
    if not identities and pixels is not None:
        digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def write_hits(directory: Path, hits: Hits) -> None:
    """probe_hits.npz, atomically. An array of bits for each probe, packed along the images:

    images    uint8 (16): the hash        labels    int32 (M)
    rows, probes  text: names             tested    uint8 (number of probes, ceil(M / 8))
    right_NAME    uint8 (number of rows, R, ceil(m / 8)) of the probe NAME
    files     int32 (M), only where images are tiles or pages
    """
    rows, probes = list(hits.right), list(hits.tested)
    arrays = {
        "images": np.frombuffer(bytes.fromhex(hits.images), np.uint8),
        "labels": hits.labels.astype(np.int32),
        "rows": np.array(rows, dtype=np.str_),
        "probes": np.array(probes, dtype=np.str_),
        "tested": np.packbits(np.concatenate([hits.tested[name] for name in probes]), axis=-1),
    }
    for name in probes:
        arrays[f"right_{name}"] = np.packbits(np.stack([hits.right[row][name] for row in rows]), axis=-1)
    if hits.files is not None:
        arrays["files"] = hits.files.astype(np.int32)
    write_arrays(directory / PROBE_HITS, arrays)


def read_hits(directory: Path) -> Hits | None:
    """probe_hits.npz; None if there is none (runs of earlier versions, and runs without probes).

    Raises: UserError naming the file if its arrays do not fit each other.
    """
    path = directory / PROBE_HITS
    arrays = read_arrays(path)
    if not path.exists():
        return None
    kinds = {"images": ("u", (16,)), "labels": ("i", None), "rows": ("U", None), "probes": ("U", None)}
    for name, (kind, shape) in kinds.items():
        found = arrays.get(name)
        if found is None or found.dtype.kind != kind or found.ndim != 1 or (shape and found.shape != shape):
            raise damaged(path, f"{name} is {_shown(found)}; expected one axis of {_KINDS[kind]}")
    labels = arrays["labels"]
    try:
        rows, probes = ([str(each) for each in arrays[name]] for name in ("rows", "probes"))
    except (ValueError, SystemError):  # numbers beyond those of Unicode
        raise damaged(path, "its names are no text") from None
    if len(set(rows)) < len(rows) or len(set(probes)) < len(probes) or not rows or not probes or not len(labels):
        raise damaged(path, "rows, probes and labels must not be empty, and no name may occur twice")
    files = arrays.get("files")
    if files is not None and (files.dtype.kind != "i" or files.shape != labels.shape):
        raise damaged(path, f"files is {_shown(files)}; expected whole numbers of shape {labels.shape}")
    tested = _bits(path, arrays, "tested", (len(probes),), len(labels))
    right: dict[str, dict[str, np.ndarray]] = {row: {} for row in rows}
    for number, name in enumerate(probes):
        of_rows = _bits(path, arrays, f"right_{name}", (len(rows), None), int(tested[number].sum()))
        for row, bits in zip(rows, of_rows, strict=True):
            right[row][name] = bits
    return Hits(
        images=arrays["images"].tobytes().hex(),
        labels=labels,
        tested={name: tested[number : number + 1] for number, name in enumerate(probes)},
        right=right,
        files=files,
    )


_KINDS = {"u": "uint8, 16 of them", "i": "whole numbers", "U": "text"}


def _shown(array: np.ndarray | None) -> str:
    return "missing" if array is None else f"{array.dtype} of shape {array.shape}"


def _bits(
    path: Path, arrays: Mapping[str, np.ndarray], name: str, lead: tuple[int | None, ...], count: int
) -> np.ndarray:
    """bool (*lead, count), unpacked; None in `lead` is any length from 1."""
    packed = arrays.get(name)
    wanted = (*lead, -(-count // 8))
    if packed is None or packed.dtype != np.uint8 or not _has_shape(packed, wanted) or count == 0:
        shape = ", ".join("R" if each is None else str(each) for each in wanted)
        raise damaged(path, f"{name} is {_shown(packed)}; expected uint8 of shape ({shape}), bits of {count} images")
    return np.unpackbits(packed, axis=-1, count=count).astype(bool)


def _has_shape(array: np.ndarray, wanted: tuple[int | None, ...]) -> bool:
    pairs = list(zip(array.shape, wanted, strict=False))
    return array.ndim == len(wanted) and all(have == want or (want is None and have > 0) for have, want in pairs)
