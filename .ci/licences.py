"""A table of the packages that eigenview needs at run time, with their licences, from the installed metadata.

    python .ci/licences.py            the dependencies, and theirs
    python .ci/licences.py --extras   those of all extras too, as far as they are installed

Exit code 1 if a licence is not one of PERMISSIVE and the package is not in REASONS.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import PackageNotFoundError, distribution
from typing import NamedTuple

# what a licence may be called: SPDX names, and the last part of a trove classifier
PERMISSIVE = (
    "0BSD",
    "Apache",
    "BSD",
    "BSL-1.0",
    "CC0",
    "CNRI-Python",
    "HPND",
    "Historical Permission Notice and Disclaimer",
    "ISC",
    "MIT",
    "PSF",
    "Python Software Foundation",
    "Unlicense",
    "Zlib",
)
NAMES = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, PERMISSIVE))})(?![a-z])", re.IGNORECASE)
REASONS = {
    "certifi": "a list of certificates that is used as it is; only changes to its own files would have to be shared",
    "cuda-toolkit": "it has no files: it names packages of NVIDIA",
    "orjson": "used under MIT or Apache-2.0",
    "tqdm": "used as it is; only changes to its own files would have to be shared",
}
"""Packages whose licence is not permissive, or not stated, and why that is no obstacle."""
NVIDIA = "torch's wheels for Linux need these libraries, which may be used and not changed"


class Package(NamedTuple):
    """A row of the table."""

    name: str
    version: str
    licence: str
    reason: str
    """Why a licence that is not permissive is accepted; empty for the others."""
    is_accepted: bool


def needed(root: str, *, with_extras: bool) -> Iterator[str]:
    """The names of the installed packages that `root` needs, and theirs, each once."""
    waiting, seen = [(root, with_extras)], {canonical(root)}
    while waiting:
        name, extras = waiting.pop()
        for requirement in distribution(name).requires or ():
            one = canonical(re.match(r"[\w.-]+", requirement)[0])  # pyright: ignore[reportOptionalSubscript]
            # an extra of another package is needed by nobody here, unless it is installed for another reason
            if one in seen or ("extra ==" in requirement and not extras):
                continue
            try:
                distribution(one)
            except PackageNotFoundError:  # of another platform, or an extra that is not installed
                continue
            seen.add(one)
            waiting.append((one, False))
            yield one


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(metadata: Message) -> str:
    """The licence that the metadata states: as an SPDX expression, as classifiers, or in one line of text."""
    expression = metadata.get("License-Expression")
    if expression:
        return expression
    named = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier") or [] if each.startswith("License")]
    named = [each for each in named if each != "OSI Approved"]
    if named:
        return " and ".join(named)
    return (metadata.get("License") or "").strip().partition("\n")[0] or "not stated"


def is_permissive(licence: str) -> bool:
    """Whether every part joined by `and` is permissive; of alternatives joined by `or`, one must be."""
    parts = re.split(r"\band\b|[;,]", re.sub(r"[()]", " ", licence), flags=re.IGNORECASE)
    alternatives = [re.split(r"(?<!-)\bor\b(?!-)", part, flags=re.IGNORECASE) for part in parts]
    return all(any(NAMES.search(one) for one in part) for part in alternatives)


def judged(name: str) -> Package:
    """The row of an installed package."""
    installed = distribution(name)
    licence = licence_of(installed.metadata)  # pyright: ignore[reportArgumentType]
    if is_permissive(licence):
        return Package(name, installed.version, licence, "", True)
    reason = REASONS.get(name, NVIDIA if name.startswith("nvidia-") else "")
    return Package(name, installed.version, licence, reason, bool(reason))


def main() -> int:
    """Print the table; returns the exit code."""
    packages = [judged(name) for name in sorted(needed("eigenview", with_extras="--extras" in sys.argv))]
    print("| package | version | licence | note |\n|---|---|---|---|")
    for each in packages:
        print(f"| {each.name} | {each.version} | {each.licence} | {each.reason} |")
    refused = [f"{each.name} ({each.licence})" for each in packages if not each.is_accepted]
    if refused:
        print(f"not permissive, and without a reason in .ci/licences.py: {', '.join(refused)}", file=sys.stderr)
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
