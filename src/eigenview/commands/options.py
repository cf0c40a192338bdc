"""How every verb reads its options: tyro with one set of conventions, and errors of one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from typing import Any

import tyro

from eigenview.errors import UserError

# marks a field whose own fields become options without a prefix: --epochs, not --run.epochs
FLAT = tyro.conf.arg(name="")
ELSEWHERE: Mapping[str, str] = {
    "--pretrained": "It is named --weights: a file, a folder of timm, a run, timm:NAME or hf:OWNER/NAME.",
    "--config": "--recipe MODULE:FUNCTION starts from a RunConfig of your own; --out RUN --resume continues a run.",
    "--logger": "The log is RUN/metrics.jsonl, a row each --monitor.log-every-steps; RUN/report.html draws it.",
    "--lr": "It is named --optim.lr-per-256: the learning rate at a batch of 256.",
    "--gpus": "It is named --devices.",
    "--label-fraction": "It is named --probe.label-fraction: the share of the training labels that all probes may use.",
    "--labels-per-class": "It is named --probe.labels-per-class: the labels of each class for the few-label probe.",
    "--name": "It is named --out: the run directory.",
}
"""Options of other programs -> what there is for them in `pretrain`."""
TAKES_IMAGES = ("pretrain", "pack", "embed")
SEVERAL = (
    "Images are one argument: quote a pattern ('photos/*.jpg'), or name several files and folders in a text file, a "
    "path in each line, and give that."
)
"""What to do with several arguments where one names the images, such as a pattern that the shell has replaced."""


def parse(kind: Any, args: list[str], verb: str, default: Any = None, description: str | None = None) -> Any:
    """An instance of the dataclass `kind`: hyphens in option names, no subcommands, all of the help on one page.

    Exits with code 0 after --help.

    Raises:
        UserError: an unknown option, a value of the wrong type, or one that `kind` refuses.
    """
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    keywords = {} if default is None else {"default": default}
    printed, prog = io.StringIO(), f"eigenview {verb}"
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(kind, args=args, prog=prog, description=description, config=config, **keywords)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_own_message(stop) or _one_line(printed.getvalue(), verb)) from None


def _own_message(stop: BaseException) -> str | None:
    """The message of the UserError that a config raised, for which tyro exits; None if tyro itself refused."""
    error: BaseException | None = stop
    while error is not None:
        if isinstance(error, UserError):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def _one_line(box: str, verb: str) -> str:
    """What tyro prints in a box of many lines: its first sentence, and the names that it suggests."""
    sections: list[list[str]] = [[]]
    for shown in re.sub(r"\x1b\[[\d;]*m", "", box).splitlines()[1:]:  # below the title
        line = shown.strip().strip("│|").strip()
        if line and not line.strip("╰─╯+-"):
            sections.append([])
        elif line:
            sections[-1].append(line)
    sections = [section for section in sections if section]
    sentence = " ".join(sections[0])
    for option, advice in ELSEWHERE.items() if verb == "pretrain" else ():
        if option in sentence.replace(",", " ").split():
            return f"{sentence}. {advice}"
    if verb in TAKES_IMAGES and re.match("Unrecognized options: [^-]", sentence):
        return f"{sentence.rstrip('.')}. {SEVERAL} (eigenview {verb} --help)"
    near = [line for section in sections[1:] if "meant" in section[0] for line in section]
    names = [line.split()[0] for line in near if line.startswith("--")]
    meant = f" Did you mean {' or '.join(names)}?" if names else ""
    return f"{sentence.rstrip('.')}.{meant} (eigenview {verb} --help)"
