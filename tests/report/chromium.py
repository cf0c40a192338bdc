"""Headless Chromium for tests: the page after its scripts have run, the messages of the console, and screenshots."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
# a fresh profile, nothing in the background, no network
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--v=0",
)


@dataclass(frozen=True)
class Page:
    """The document after its scripts have run, and each message of the console."""

    dom: str
    console: list[str]


def find_chromium() -> str | None:
    """The browser's path, or None where none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def dump_dom(path: Path, *flags: str) -> Page:
    """Open a local file and let its scripts run for (virtual) ten seconds."""
    done = _run(path, "--dump-dom", *flags)
    return Page(done.stdout, re.findall(r"CONSOLE[:(]\d+\)?\] (.*)", done.stderr))


def screenshot(path: Path, png: Path, width: int, height: int, *, dark: bool = False) -> None:
    """A picture of the page's first `height` pixels at `width`, in the light or the dark theme."""
    scheme = 0 if dark else 1  # Blink's own numbers: 0 dark, 1 light
    with tempfile.TemporaryDirectory() as folder:
        # a window is never narrower than 500 px; a frame in it can be
        frame = Path(folder) / "frame.html"
        source, style = path.resolve().as_uri(), f"border:0;width:{width}px;height:{height}px"
        frame.write_text(
            "<!DOCTYPE html><meta name='color-scheme' content='light dark'><body style='margin:0'>"
            f"<iframe src='{source}' style='{style}'></iframe>"
        )
        look = f"--blink-settings=preferredColorScheme={scheme}"
        _run(frame, f"--screenshot={png.resolve()}", f"--window-size={width},{height}", look)
    if not png.exists():
        raise RuntimeError(f"Chromium wrote no screenshot of {path}")


def _run(path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    browser = find_chromium()
    if browser is None:
        raise RuntimeError(f"no Chromium here; looked for {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=10000", *flags]
        command.append(path.resolve().as_uri())
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
