"""The Python face of the command line: `pretrain` and the `Run` it gives back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigenview import runfiles
from eigenview.config import RunConfig, from_dict
from eigenview.errors import UserError, require

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


def read_config(directory: Path) -> RunConfig[Any]:
    """The RunConfig in a run directory."""
    from eigenview.methods import config_class

    values = runfiles.read_json(directory / runfiles.CONFIG)
    if not isinstance(values, dict) or "method" not in values:
        raise UserError(f"{directory / runfiles.CONFIG} is not the configuration of an eigenview run.")
    return from_dict(values, config_class(values["method"]))


def with_fields(config: Any, fields: dict[str, Any], where: str = "") -> Any:
    """`config` with some fields replaced; a nested dict goes into a nested config."""
    known = {f.name for f in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    for name, value in fields.items():
        require(name in known, f"{where}{name}", value, f"the fields {', '.join(sorted(known))}")
        nested = getattr(config, name)
        into = isinstance(value, dict) and dataclasses.is_dataclass(nested)
        changes[name] = with_fields(nested, value, f"{where}{name}.") if into else value
    return dataclasses.replace(config, **changes)


def pretrain(
    data: str | Path = "digits",
    *,
    method: str = "vicreg",
    config: RunConfig[Any] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    console: Console | None = None,
    **fields: Any,
) -> Run:
    """Pretrain an encoder; the same as `eigenview pretrain DATA --method METHOD --out OUT --FIELD VALUE ...`.

    Args:
        data: "digits", a folder of images, an array file, or a torchvision data set on disk.
        method: name of the objective.
        config: a complete RunConfig instead of the default one for `data` and `method`, which it then overrules.
        out: run directory; default runs/<data>-<method>-<n>.
        resume: continue the run in `out` from its last checkpoint, with its own configuration.
        console: where to print; default the terminal.
        fields: fields of RunConfig, nested ones as dicts: `epochs=10, objective={"variance": 25.0}`.

    Returns:
        The Run, also where the verdict is a collapse; look at `run.verdict`.

    Raises:
        UserError: bad input; one line with the value, what is allowed and the way out.
    """
    from rich.console import Console

    from eigenview.recipes import default

    if resume:
        if out is None:
            raise UserError("resume needs the run directory: give out=.")
        if fields or config is not None:
            raise UserError("a resumed run keeps its own configuration; leave the other options out.")
        settled = read_config(Path(out))
    else:
        settled = config if config is not None else default(method, str(data))
        if config is None:
            settled = dataclasses.replace(settled, data=str(data))
        settled = with_fields(settled, fields)
    given = None if out is None else Path(out)
    with runfiles.run_dir(given, settled.data, settled.method) as directory:
        # a call in Python is no command that repeats the run; config.json does
        start(settled, directory, resume=resume, console=console or Console(), command=[])
    return Run(directory)


def start(
    config: RunConfig[Any], directory: Path, *, resume: bool, console: Console, command: list[str]
) -> dict[str, Any]:
    """Train; torch and Lightning are imported only now."""
    if not resume:
        _refuse_occupied(directory)
    from eigenview.progress import loading

    with loading(console, "PyTorch and Lightning"):
        from eigenview.engine.train import train

    return train(config, directory, resume=resume, command=command, console=console)


def _refuse_occupied(directory: Path) -> None:
    """Say at once, before the slow imports, that a directory is taken (rank 0 alone claims it later)."""
    import os

    if os.environ.get("LOCAL_RANK", "0") == "0" and directory.exists():
        runfiles.create_run_dir(directory)
