"""Run the shell commands of a Markdown file in a scratch folder, as a newcomer would type them.

    python tests/readme_commands.py README.md --scratch DIR

Blocks fenced with ```sh are run, line by line joined, with `bash -euo pipefail`, in order, in one folder that holds
`photos/` (a few labelled pictures made here). Blocks fenced with ```python are run with the checkout's interpreter.
```text and ```console blocks are shown only. A block that follows the comment <!-- not run: REASON --> is skipped and
its reason printed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>.*?) -->\s*)?```(?P<kind>sh|python)\n(?P<body>.*?)```", re.DOTALL)

PHOTOS = """
import numpy as np
from PIL import Image
from pathlib import Path
rng = np.random.default_rng(0)
for k in range(240):
    side = int(rng.integers(40, 90))
    y, x = np.mgrid[:side, :side] / side
    kind = k % 3
    wave = [np.sin(12 * x), np.sin(12 * y), np.sin(9 * (x + y))][kind]
    colour = rng.uniform(80, 255, 3)
    pixels = (wave[..., None] * 0.5 + 0.5) * colour + rng.normal(0, 12, (side, side, 3))
    folder = Path("photos") / ["columns", "rows", "slopes"][kind]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(folder / f"{k:03}.jpg")
"""


def main() -> int:
    """Run every block; exit code 1 at the first that fails, with its output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--scratch", type=Path, required=True)
    given = parser.parse_args()
    text = given.file.read_text()
    given.scratch.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "UV_PROJECT": str(ROOT), "EIGENVIEW_CACHE": str(given.scratch / "cache")}
    uv = ["uv", "run", "--project", str(ROOT)]
    if not (given.scratch / "photos").exists():
        subprocess.run([*uv, "python", "-c", PHOTOS], cwd=given.scratch, env=environment, check=True)
    failed = 0
    for block in BLOCK.finditer(text):
        line = text[: block.start("body")].count("\n") + 1
        where = f"{given.file}:{line}"
        if block["reason"]:
            print(f"{where}: not run: {block['reason']}", flush=True)
            continue
        command = ["bash", "-euo", "pipefail", "-c", block["body"]]
        if block["kind"] == "python":
            command = [*uv, "python", "-c", block["body"]]
        start = time.monotonic()
        done = subprocess.run(
            command, cwd=given.scratch, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        print(f"{where}: exit {done.returncode}, {time.monotonic() - start:.0f} s", flush=True)
        if done.returncode:
            print(block["body"], done.stdout[-4000:], sep="\n---\n")
            failed = 1
            break
    return failed


if __name__ == "__main__":
    sys.exit(main())
