"""The command `eigenview`: verbs, errors in one line, exit codes.

Exit codes: 0 done (whatever the verdict), 1 the run failed (diverged to non-finite numbers), 2 bad input,
3 ended by --monitor.stop-on-collapse, 130 stopped by Ctrl-C or SIGTERM with a checkpoint to resume from.
"""

from __future__ import annotations

import errno
import functools
import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

from eigenview.errors import ProcessLost, ReplacedImages, UserError, hint
from eigenview.terminal import complain, prepare_streams, silence, write

# verb -> what it is for; commands/VERB.py has its options and its main(arguments) -> exit code
VERBS = {
    "pretrain": "images -> backbone, number and verdict",
    "preview": "originals and their views on one sheet, before training",
    "probe": "k-NN, linear and few-label accuracy of a run's encoder",
    "embed": "representations of images -> a Parquet file",
    "pack": "images decoded once -> a folder for repeated runs",
    "diagnose": "collapse verdict for a run, an embeddings file or a timm model",
    "report": "one page for one run, or several side by side",
    "check": "whether every file of a run is whole",
    "cache": "decoded images that are kept: list them, or clear them",
    "simulate": "what the theory predicts: numbers, curves and a figure",
    "experiment": "reproduce a published table or figure, or a study of ours",
    "export": "the encoder for timm, torchvision, ONNX or a hub folder",
    "list": "methods, recipes, encoders, augmentations, datasets, experiments or theories",
}

HELP = """usage: eigenview VERB [options]

{verbs}

eigenview VERB --help shows a verb's options. To start: eigenview pretrain
"""


def main() -> None:
    """Run the command line; never shows a traceback for the user's own mistakes."""
    prepare_streams()
    warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
    sys.exit(run(sys.argv[1:]))


def _show_warning(
    usual: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any, **more: Any
) -> None:
    """What a Python program would see with its file and line number is one sentence on the command line."""
    if issubclass(category, ReplacedImages):
        complain(f"note      {message}")
    else:
        usual(message, category, *place, **more)


def run(args: list[str]) -> int:
    """One command line; returns the exit code."""
    if not args or args[0] in ("-h", "--help", "help"):
        write(HELP.format(verbs="\n".join(f"  {verb:11} {text}" for verb, text in VERBS.items())))
        return 0
    if args[0] == "--version":
        from eigenview import __version__

        write(f"eigenview {__version__}")
        return 0
    verb = args[0]
    try:
        if verb not in VERBS:
            raise UserError(f"{verb}: no such verb. {hint(verb, VERBS)}(eigenview --help)")
        # only the file of this verb, so that no verb waits for the imports of another
        return importlib.import_module(f"eigenview.commands.{verb}").main(args[1:])
    except UserError as error:
        complain(f"eigenview: {error}")
        return 2
    except PermissionError as error:  # a folder on the way to any of the paths given is closed
        complain(f"eigenview: {error.filename or verb}: {error.strerror}. Choose another place, or ask for access.")
        return 2
    except BrokenPipeError:  # while a library prints help
        silence(sys.stdout)
        return 0
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        complain(f"eigenview: {str(error.filename)[:60]}...: {error.strerror}. Give a path that can exist.")
        return 2
    except ProcessLost as error:
        complain(f"eigenview: {error}")
        return 1
    except KeyboardInterrupt:
        complain("eigenview: stopped.")
        return 130
