"""Run the shell commands of a Markdown file in a scratch folder, as a newcomer would type them.

    python tests/readme_commands.py README.md --scratch DIR

Blocks fenced with ```sh are run, line by line joined, with `bash -euo pipefail`, in order, in one folder that holds
`photos/` (a few labelled pictures made here) and, if the file names it, `resnet18.pth` (random weights in timm's
names). Blocks fenced with ```python are run with the checkout's interpreter.
A ```console block has a command behind each `$ `, and below it all that the command prints; `...` in it stands for any
text, and a line `...` for any lines. Its commands end with the exit code of the comment <!-- exit CODE --> before it,
else with 0. What is inside of <!-- setup ... --> is run and not shown. ```text blocks are shown only. A block that
follows the comment <!-- not run: REASON --> is skipped and its reason printed.
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
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.*?) -->\s*)?(?:<!-- exit (?P<code>\d+) -->\s*)?"
    r"```(?P<kind>sh|python|console)\n(?P<body>.*?)```|<!-- setup\n(?P<setup>.*?)-->",
    re.DOTALL,
)

WEIGHTS = """
import timm
import torch
torch.manual_seed(0)
torch.save(timm.create_model("resnet18").state_dict(), "resnet18.pth")
"""
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


def execute(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def transcript(body: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it is expected to print."""
    parts = re.split(r"^\$ (.*)\n", body, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def differs(done: subprocess.CompletedProcess[str], expected: str, code: int) -> str | None:
    """What is wrong with a command's exit code or output; None if both are as expected."""
    printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
    lines = (line.rstrip() for line in expected.splitlines())
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(re.escape("..."), ".*") + r"\n" for line in lines
    )
    if done.returncode == code and re.fullmatch(pattern, printed):
        return None
    return f"exit code {done.returncode}, expected {code}; expected\n{expected}---\nprinted\n{printed}"


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
        made = PHOTOS + (WEIGHTS if "resnet18.pth" in text else "")
        subprocess.run([*uv, "python", "-c", made], cwd=given.scratch, env=environment, check=True)
    failed = 0
    for block in BLOCK.finditer(text):
        where = f"{given.file}:{text[: block.start()].count(chr(10)) + 2}"
        if block["reason"]:
            print(f"{where}: not run: {block['reason']}", flush=True)
            continue
        kind, body = ("setup", block["setup"]) if block["setup"] else (block["kind"], block["body"])
        wrong = None
        start = time.monotonic()
        if kind == "console":
            for line, expected in transcript(body):
                done = execute([*uv, "bash", "-c", line], given.scratch, environment)
                wrong = wrong or differs(done, expected, int(block["code"] or 0))
        else:
            command = [*uv, "python", "-c", body] if kind == "python" else ["bash", "-euo", "pipefail", "-c", body]
            done = execute([*uv, *command] if kind == "setup" else command, given.scratch, environment)
            wrong = done.stdout[-4000:] if done.returncode else None
        print(f"{where}: {'fails' if wrong else 'as expected'}, {time.monotonic() - start:.0f} s", flush=True)
        if wrong is not None:
            print(body, wrong, sep="\n---\n")
            failed = 1
            break
    return failed


if __name__ == "__main__":
    sys.exit(main())
