"""Ours beside plain torch as the papers write it and beside the usual libraries, section by section.

    uv run --group bench python -m benchmarks.side_by_side [--quick] [--sections objective step ...] [--device cpu]
        [--threads 1 2] [--profile] [--json FILE] [--markdown FILE]

One process; no contestant runs during another one's turn. The machine's ceilings are measured first. Before a section
is timed, every contestant must compute what ours computes: the value, and the gradient if it has one. A section where
one does not is left out, and the command then exits with 1. Contestants take turns, each round gives a ratio, and
medians of ratios are compared with the goals: the column `holds` is yes, no, or yes and that the aim is reached too.
What each section compares, and how, is the first paragraph of its file in `benchmarks/sections`. A library that cannot
be imported is skipped with a line.

Threads wait as torch sets them to by default. OMP_WAIT_POLICY=PASSIVE steadies the sections augmentation and loader;
it slows the others on a virtual machine, where waking a thread can take 0.1 ms, as long as the operation it is for.
`--quick` (under a minute) takes smaller shapes and two or three rounds: it shows that everything runs, not how fast,
and compares with no goal. `--device cuda` takes the shapes of a GPU. CIFAR10= names the unpacked CIFAR-10 (JPEG)
folder, for the section step. `--profile` prints after the sections objective and step which operators their time goes
into.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.sections import NAMES

if TYPE_CHECKING:
    from benchmarks.contest import Row, Settings
    from benchmarks.profiles import Profile


def machine_of(settings: Settings) -> dict[str, Any]:
    """What the numbers were measured on."""
    import platform

    import torch

    import eigenview
    from benchmarks.peers import versions
    from eigenview.engine.environment import source_commit

    cpu = f"cpu ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    return {
        "device": torch.cuda.get_device_name(0) if settings.is_cuda else cpu,
        "scale": settings.scale,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **versions(),
        "eigenview": eigenview.__version__,
        "commit": source_commit(),
    }


def settings_of(given: argparse.Namespace, say: Any) -> Settings:
    """The settings that the command line asks for."""
    import torch

    from benchmarks.contest import Settings

    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no CUDA device here; use --device cpu.")
    most = torch.get_num_threads()
    threads = tuple(given.threads or ((most,) if device.type == "cuda" else sorted({1, most})))
    return Settings(scale="quick" if given.quick else "full", device=device, threads=threads, say=say)


def write(
    given: argparse.Namespace,
    rows: Mapping[str, Sequence[Row]],
    profiles: Sequence[Profile],
    ceilings: Any,
    machine: Any,
) -> None:
    """Write the requested files; called after every section, so that a stopped run leaves what it had measured."""
    from benchmarks import profiles as by_operator
    from benchmarks.printing import document, markdown_of

    if given.json:
        given.json.write_text(document(rows, ceilings, machine, [each.line() for each in profiles]))
    if given.markdown:
        given.markdown.write_text(markdown_of(rows, ceilings, machine) + by_operator.markdown_of(profiles))


def measure_all(given: argparse.Namespace, settings: Settings, show: Any) -> int:
    """Ceilings, then every section; the number of sections whose contestants disagree."""
    import torch

    from benchmarks import profiles as by_operator
    from benchmarks.ceilings import ceilings
    from benchmarks.contest import Disagreement
    from benchmarks.printing import json_lines, table_of
    from benchmarks.sections import sections

    machine, most = machine_of(settings), torch.get_num_threads()
    measured = ceilings(settings)
    settings.say("ceilings: " + "; ".join(", ".join(f"{n} {v:,}" for n, v in line.items()) for line in measured))
    rows: dict[str, list[Row]] = {}
    profiles: list[Profile] = []
    disagreements = 0
    known = sections()
    for name in given.sections:
        torch.set_num_threads(most)
        mark = time.perf_counter()
        try:
            rows[name] = known[name].measure(settings)
        except Disagreement as error:
            disagreements += 1
            settings.say(f"{name}: {error}")
            continue
        show(table_of(f"{name} ({time.perf_counter() - mark:.0f} s)", rows[name]))
        if given.profile and (inside := known[name].inside) is not None:
            for found in by_operator.profiles_of(inside(settings), settings):
                profiles.append(found)
                show(by_operator.table_of(found))
        write(given, rows, profiles, measured, machine)
    torch.set_num_threads(most)
    print("\n".join(line for each in rows.values() for line in json_lines(each, machine)))
    return disagreements


def main() -> int:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="small shapes, few rounds, no goals")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 and torch's own number")
    parser.add_argument("--profile", action="store_true", help="where the time of objective and step goes")
    parser.add_argument("--json", type=Path, help="write everything to this file, after each section")
    parser.add_argument("--markdown", type=Path, help="write the tables for RESULTS.md to this file")
    given = parser.parse_args()

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler, which counts memory, else reports each start
    from eigenview.terminal import Console

    console = Console()
    settings = settings_of(given, lambda line: console.print(line))
    return 1 if measure_all(given, settings, console.print) else 0


if __name__ == "__main__":
    sys.exit(main())
