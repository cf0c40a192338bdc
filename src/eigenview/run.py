"""The Python face of the command line: `pretrain` and the `Run` it gives back."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigenview import runfiles
from eigenview.config import AugmentConfig, RunConfig, from_dict, method_name, with_fields
from eigenview.config.names import upgrade
from eigenview.config.reading import OF_RUN
from eigenview.data.views.own import module_of
from eigenview.errors import Interrupted, UserError, require
from eigenview.launched import launched_rank
from eigenview.records import MethodConfig

if TYPE_CHECKING:
    from eigenview.models.export import LoadedEncoder
    from eigenview.terminal import Console, RichConsole


@dataclass(frozen=True)
class Run:
    """A run directory: its summary, verdict and encoder, read from the files when asked for."""

    directory: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", Path(self.directory))  # text is a path too

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json: verdict and headline numbers."""
        return runfiles.read_summary(self.directory)

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

    def _repr_html_(self) -> str:
        """What a notebook shows: directory, verdict and accuracies."""
        name = escape(str(self.directory))
        if not (self.directory / runfiles.SUMMARY).exists():
            return f"<p><code>{name}</code>: a run without a summary yet</p>"
        summary = self.summary
        columns = {"knn": "k-NN", "linear": "linear", "linear_few": "linear, few labels"}
        rows: dict[str, Any] = {**summary.get("baselines", {}), "this encoder": summary}
        cells = {row: [values.get(column) for column in columns] for row, values in rows.items()}
        table = [["accuracy in percent", *columns.values()]]
        table += [[row, *("" if each is None else f"{each:.1f}" for each in values)] for row, values in cells.items()]
        lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table]
        accuracies = f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
        verdict = f"<b>{escape(summary['verdict'])}</b>: {escape(summary['reason'])}"
        return f"<p><code>{name}</code><br>{verdict}</p>{accuracies if any(map(any, cells.values())) else ''}"


def read_config(directory: Path, *, trusted_method: str | None = None) -> RunConfig[Any]:
    """The RunConfig in a run directory.

    A method that is no part of this package is imported only if it is `trusted_method`, or imported already: a file
    must not decide what is executed.
    """
    from eigenview.methods import METHODS, config_class

    path = directory / runfiles.CONFIG
    values = runfiles.read_config(directory)
    if "method" not in values:
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


def require_trusted_transforms(stored: RunConfig[Any], directory: Path, *, is_named: bool) -> None:
    """A transform of one's own in a config.json is imported only if the caller named it, or its module is imported
    already: a file must not decide what is executed.

    Raises: UserError with what to name.
    """
    names = stored.augment.transforms()
    if not is_named and any(module_of(name) not in sys.modules for name in names):
        raise UserError(
            f"{directory / runfiles.CONFIG} names a transform that is no part of eigenview. If you trust its module, "
            f"name it: --augment.own {','.join(names)} (in Python: import it first)."
        )


def pretrain(
    data: str | Path | None = None,
    *,
    method: str | MethodConfig | None = None,
    config: RunConfig[Any] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    allow_changed_data: bool = False,
    console: RichConsole | None = None,
    **fields: Any,
) -> Run:
    """Pretrain an encoder; the same as `eigenview pretrain DATA --method METHOD --out OUT --FIELD VALUE ...`.

    Args:
        data: "digits" (the default), a folder of images, an array file, or a torchvision data set on disk.
        method: name of the method, or its config: `ev.SimCLRConfig(temperature=0.2)`; default "vicreg".
        config: a complete RunConfig; instead of `data` and `method`.
        out: run directory; default runs/<data>-<method>-<n>.
        resume: continue the run in `out` from its last checkpoint; start it if there is none yet. `data` and
            `probe_data` may say where the images are now, and `epochs` may be more than before; what else is given must
            agree with the run's own configuration.
        allow_changed_data: resume also if files of the data changed since the run began.
        console: where to print; default the terminal.
        fields: fields of RunConfig, nested ones as dicts: `epochs=10, network={"projector_width": 128}`. `weights` may
            also be a module: its values are kept in eigenview's cache, and that file is what the run starts from. A
            transform of one's own is a function at the top of a module: `augment={"own": my_transform}`.

    Returns:
        The Run, also where the verdict is a collapse; look at `run.verdict`.

    Raises:
        UserError: bad input; one line with the value, what is allowed, and what to do.
        KeyboardInterrupt: the run was interrupted; the message says how to continue it.
    """
    from eigenview.terminal import console_for

    if method is not None and not isinstance(method, str | MethodConfig):
        raise UserError(f'method is {method!r}; allowed: a name such as "simclr", or ev.SimCLRConfig(temperature=0.2).')
    if data is not None and not isinstance(data, str | Path):
        raise UserError(
            f"data is a {type(data).__name__}; allowed: a path or a name. A run can be resumed, so its images lie on "
            "disk: save arrays with np.savez('images.npz', images=..., labels=...) (uint8) and pass that file's name."
        )
    if config is not None and (data is not None or method is not None):
        raise UserError("config is a complete RunConfig, with data and method: leave those two out.")
    if fields.get("weights") is not None:
        fields = {**fields, "weights": _named_weights(fields["weights"])}
    given = None if out is None else Path(out)
    if resume and given is None:
        raise UserError("resume needs the run directory: give out=.")
    resume = resume and given is not None and (given / runfiles.CONFIG).exists()
    stored: RunConfig[Any] | None = None
    if resume and given is not None:
        stored = read_config(given)
        augment = fields.get("augment", {})
        is_named = config is not None or (isinstance(augment, Mapping) and "own" in augment)
        require_trusted_transforms(stored, given, is_named=is_named or isinstance(augment, AugmentConfig))
        run = resumed_config(_asked(config or stored, data, method, fields), stored, given)
    else:
        given_data = "digits" if data is None else str(data)
        run = config or _default(method or "vicreg", given_data)
        run = with_fields(run, fields)
    with runfiles.run_dir(given, run.data, method_name(run.method)) as directory:
        try:
            start(
                run,
                directory,
                stored=stored,
                allow_changed_data=allow_changed_data,
                console=console_for(console),
                command=[],  # a call in Python is no command that repeats the run; config.json does
            )
        except (Interrupted, KeyboardInterrupt) as stop:
            text = f"{str(stop) or 'stopped'}; continue with: ev.pretrain(out={str(directory)!r}, resume=True)"
            raise KeyboardInterrupt(text) from None
    return Run(directory)


def _named_weights(weights: Any) -> str:
    """A path or name of weights; of a module those of the file in which it is kept now."""
    if isinstance(weights, str | Path):
        return str(weights)
    from torch import nn

    from eigenview.data.pixels.cache import cache_folder
    from eigenview.models.weights import keep

    if not isinstance(weights, nn.Module):
        raise UserError(f"weights is a {type(weights).__name__}; allowed: a path or name, or a torch module.")
    return str(keep(weights, cache_folder() / "weights"))


def resumed_config(asked: RunConfig[Any], stored: RunConfig[Any], directory: Path) -> RunConfig[Any]:
    """The configuration with which a run goes on: `asked`, which may name other places of the data and more epochs.

    Raises UserError for any other difference from `stored`, for fewer epochs, and for data that are not there.
    """
    from eigenview.data.load import find_source
    from eigenview.data.sources.label_file import WORDS

    asked = asked.decided()
    same = {"data": stored.data, "probe_data": stored.probe_data, "epochs": stored.epochs}
    if asked.weights is not None and stored.weights is not None:
        same["weights"] = stored.weights
        asked = _as_weights_decided(asked, stored)
    if not {asked.labels, stored.labels} & set(WORDS):
        same["labels"] = stored.labels
    if dataclasses.replace(asked, **same) != stored.decided():
        raise UserError(
            f"a resumed run keeps its own configuration ({directory / runfiles.CONFIG}), and these options differ from "
            "it; leave them out. Only DATA, --probe-data, --weights and a file of --labels, where they lie elsewhere, "
            "and more --epochs may be given."
        )
    require(asked.epochs >= stored.epochs, "--epochs", asked.epochs, f"{stored.epochs} or more for this run")
    try:
        find_source(asked.data, asked.labels)
        if asked.probe_data is not None:
            find_source(asked.probe_data)
    except UserError as error:
        raise UserError(
            f"{error} If the images have moved, say where they are: eigenview pretrain DATA "
            f"--out {shlex.quote(str(directory))} --resume (and --probe-data, --labels)."
        ) from error
    return at_absolute_paths(asked)


def _as_weights_decided(asked: RunConfig[Any], stored: RunConfig[Any]) -> RunConfig[Any]:
    """`asked` with what the run took over from its weights, where `asked` leaves that to them."""
    plain: RunConfig[Any] = RunConfig()

    def left_open(names: Sequence[str], ours: Any, theirs: Any, default: Any) -> dict[str, Any]:
        return {name: getattr(theirs, name) for name in names if getattr(ours, name) == getattr(default, name)}

    network = left_open(("stem", "encoder_norm"), asked.network, stored.network, plain.network)
    return with_fields(asked, left_open(("encoder", *OF_RUN), asked, stored, plain) | {"network": network})


def at_absolute_paths(config: RunConfig[Any]) -> RunConfig[Any]:
    """`config` with paths of data that hold from any folder, so that the run can be resumed from there."""
    from eigenview.data.load import absolute, absolute_labels

    probe_data = None if config.probe_data is None else absolute(config.probe_data)
    weights = None if config.weights is None else absolute(config.weights)
    paths = {"data": absolute(config.data), "probe_data": probe_data, "weights": weights}
    return dataclasses.replace(config, **paths, labels=absolute_labels(config.labels))


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
    config = default(method_name(method), data)
    return dataclasses.replace(config, data=data, method=method)


def start(
    config: RunConfig[Any],
    directory: Path | None,
    *,
    stored: RunConfig[Any] | None = None,
    allow_changed_data: bool = False,
    console: Console,
    command: list[str],
) -> dict[str, Any]:
    """Train in `directory`; without one print the plan and the estimate. Torch is imported only now.

    stored: the configuration of the run in `directory`, to resume it; `config` comes from `resumed_config` then.
    """
    if directory is not None and stored is None:
        _refuse_occupied(directory)
    from eigenview.progress import loading

    with loading(console, "PyTorch"):
        from eigenview.engine.resume import Resumed
        from eigenview.engine.train import show_dry_run, train

    config = at_absolute_paths(config)
    if directory is None:
        show_dry_run(config, console)
        return {}
    resumed = None if stored is None else Resumed(stored, allow_changed_data)
    return train(config, directory, resumed=resumed, command=command, console=console)


def _refuse_occupied(directory: Path) -> None:
    """Refuse an occupied directory at once, before the slow imports (only rank 0 creates it later)."""
    if launched_rank() == 0 and directory.exists():
        runfiles.create_run_dir(directory)
