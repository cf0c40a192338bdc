"""The Python face of the command line: `pretrain` and the `Run` it gives back."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigenview import runfiles
from eigenview.config import RunConfig, from_dict, method_name, with_fields
from eigenview.config.names import upgrade
from eigenview.errors import UserError
from eigenview.launched import launched_rank
from eigenview.records import MethodConfig

if TYPE_CHECKING:
    from rich.console import Console

    from eigenview.models.export import LoadedEncoder


@dataclass(frozen=True)
class Run:
    """A run directory: its summary, verdict and encoder, read from the files when asked for."""

    directory: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory))  # text is a path too

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: verdict and headline numbers."""
        return runfiles.read_json(self.directory / runfiles.SUMMARY)

    @property
    def verdict(self) -> str:
        """healthy, complete collapse, dimensional collapse, diverged or too early to judge (below 30 steps)."""
        return self.summary["verdict"]

    @property
    def config(self) -> RunConfig[Any]:
        """The configuration the run was made with."""
        return read_config(self.directory)

    @property
    def encoder(self) -> LoadedEncoder:
        """The trained encoder, a torch module with `.embed(images)`."""
        from eigenview.models.export import load_encoder

        return load_encoder(self.directory)


def read_config(directory: Path, *, trusted_method: str | None = None) -> RunConfig[Any]:
    """The RunConfig in a run directory.

    A method that is no part of this package is imported only if it is `trusted_method`, or imported already: a file
    must not decide what is executed.
    """
    from eigenview.methods import METHODS, config_class

    path = directory / runfiles.CONFIG
    values = runfiles.read_json(path)
    if not isinstance(values, dict) or "method" not in values:
        raise UserError(f"{path} is not the configuration of an eigenview run.")
    values = upgrade(values)
    name = values["method"].get("name") if isinstance(values["method"], dict) else None
    if not isinstance(name, str):
        raise UserError(f"{path} names no method.")
    if name not in METHODS and name != trusted_method and name not in sys.modules:
        raise UserError(
            f"{path} names the method {name}, which is no part of eigenview. If you trust that module, "
            f"name it: --method {name} (in Python: import it first)."
        )
    return from_dict(values, config_class(name))


def pretrain(
    data: str | Path | None = None,
    *,
    method: str | MethodConfig | None = None,
    config: RunConfig[Any] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    console: Console | None = None,
    **fields: Any,
) -> Run:
    """Pretrain an encoder; the same as `eigenview pretrain DATA --method METHOD --out OUT --FIELD VALUE ...`.

    Args:
        data: "digits" (the default), a folder of images, an array file, or a torchvision data set on disk.
        method: name of the method, or its config: `ev.SimCLRConfig(temperature=0.2)`; default "vicreg".
        config: a complete RunConfig; instead of `data` and `method`.
        out: run directory; default runs/<data>-<method>-<n>.
        resume: continue the run in `out` from its last checkpoint; start it if there is none yet. What else is given
            must agree with the run's own configuration.
        console: where to print; default the terminal.
        fields: fields of RunConfig, nested ones as dicts: `epochs=10, network={"projector_width": 128}`.

    Returns:
        The Run, also where the verdict is a collapse; look at `run.verdict`.

    Raises:
        UserError: bad input; one line with the value, what is allowed, and what to do.
    """
    from rich.console import Console

    if method is not None and not isinstance(method, str | MethodConfig):
        raise UserError(f'method is {method!r}; allowed: a name such as "simclr", or ev.SimCLRConfig(temperature=0.2).')
    if config is not None and (data is not None or method is not None):
        raise UserError("config is a complete RunConfig, with data and method: leave those two out.")
    given = None if out is None else Path(out)
    if resume and given is None:
        raise UserError("resume needs the run directory: give out=.")
    resume = resume and given is not None and (given / runfiles.CONFIG).exists()
    if resume and given is not None:
        run = read_config(given)
        if _asked(config or run, data, method, fields) != run:
            raise UserError(
                f"a resumed run keeps its own configuration ({given / runfiles.CONFIG}), and these options differ from "
                "it; leave them out."
            )
    else:
        run = with_fields(config or _default(method or "vicreg", "digits" if data is None else str(data)), fields)
    with runfiles.run_dir(given, run.data, method_name(run.method)) as directory:
        # a call in Python is no command that repeats the run; config.json does
        start(run, directory, resume=resume, console=console or Console(), command=[])
    return Run(directory)


def _asked(
    run: RunConfig[Any], data: str | Path | None, method: str | MethodConfig | None, fields: Mapping[str, Any]
) -> RunConfig[Any]:
    """`run` with what a call of `pretrain` asks for; the name of another method stands for its default recipe."""
    if data is not None:
        run = dataclasses.replace(run, data=str(data))
    if isinstance(method, str) and method != method_name(run.method):
        run = _default(method, run.data)
    elif isinstance(method, MethodConfig):
        run = dataclasses.replace(run, method=method)
    return with_fields(run, fields)


def _default(method: str | MethodConfig, data: str) -> RunConfig[Any]:
    """The default recipe of a method, for this data; with a config its options are those of the config."""
    from eigenview.recipes import default

    if isinstance(method, str):
        return dataclasses.replace(default(method, data), data=data)
    return dataclasses.replace(default(method_name(method), data), data=data, method=method)


def start(
    config: RunConfig[Any], directory: Path | None, *, resume: bool, console: Console, command: list[str]
) -> dict[str, Any]:
    """Train in `directory`; without one print the plan and the estimate. Torch is imported only now."""
    if directory is not None and not resume:
        _refuse_occupied(directory)
    from eigenview.progress import loading

    with loading(console, "PyTorch"):
        from eigenview.engine.train import show_dry_run, train

    if directory is None:
        show_dry_run(config, console)
        return {}
    return train(config, directory, resume=resume, command=command, console=console)


def _refuse_occupied(directory: Path) -> None:
    """Refuse an occupied directory at once, before the slow imports (only rank 0 creates it later)."""
    if launched_rank() == 0 and directory.exists():
        runfiles.create_run_dir(directory)
