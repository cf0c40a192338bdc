"""The libraries ours is compared with: imported where they are installed, skipped with a line where they are not."""

from __future__ import annotations

import importlib
import importlib.metadata
from types import ModuleType

from benchmarks.contest import Settings

LIBRARIES = ("lightly", "kornia")


def peer(module: str, settings: Settings) -> ModuleType | None:
    """The module (lightly.loss), or None with a line where its library cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        library = module.partition(".")[0]
        if library not in settings.reported:
            settings.reported.add(library)
            settings.say(f"{library}: skipped, not importable ({missing}); uv run --group bench has it")
        return None


def versions() -> dict[str, str | None]:
    """Version of each library, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
