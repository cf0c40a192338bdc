"""Every number of every configuration is bounded on both sides; fields are found from the dataclasses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from numbers import Real
from typing import Any, get_args, get_type_hints

import pytest

from eigenview.cli import run
from eigenview.config import RunConfig
from eigenview.config.types import LARGEST
from eigenview.errors import UserError
from eigenview.methods import METHODS, config_class


def numbers(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """(names from the top, int or float) of each numeric field of `config` and of the configs in it."""
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, kinds = getattr(config, field.name), (hints[field.name], *get_args(hints[field.name]))
        if dataclasses.is_dataclass(value):
            yield from numbers(value, (*path, field.name))
        elif int in kinds or float in kinds:
            yield (*path, field.name), float if float in kinds else int


def replaced(config: Any, path: tuple[str, ...], value: Any) -> Any:
    name, *rest = path
    kind = get_type_hints(type(config))[name]
    if not rest and get_args(kind) and tuple in (getattr(kind, "__origin__", None),):
        value = (value, value)
    return dataclasses.replace(config, **{name: replaced(getattr(config, name), tuple(rest), value) if rest else value})


CONFIGS = {method: RunConfig(method=config_class(method)()) for method in METHODS}
FIELDS = sorted(
    {
        (path, kind, "vicreg" if path[0] != "method" else name)
        for name, c in CONFIGS.items()
        for path, kind in numbers(c)
    },
    key=str,
)


@pytest.mark.parametrize(("path", "kind", "method"), FIELDS, ids=lambda x: x if isinstance(x, str) else None)
def test_every_number_is_bounded(path: tuple[str, ...], kind: type, method: str) -> None:
    if kind is int:
        values: list[Any] = [10**30, -(10**30), -1]
    else:
        values = [1e308, -1e308, math.nan, math.inf, -math.inf, -1e-9]
    for value in values:
        with pytest.raises(UserError) as error:
            replaced(CONFIGS[method], path, value)
        text = str(error.value)
        assert "\n" not in text
        assert "allowed" in text
        assert any(name.replace("_", "-") in text.replace("_", "-") for name in path[-1:]), text


def test_the_fields_are_found() -> None:
    names = {".".join(path) for path, _, _ in FIELDS}
    assert {"epochs", "local_scale", "optim.clip_norm", "probe.images", "method.temperature"} <= names
    assert len(names) > 40
    for path, _, method in FIELDS:
        value: Any = CONFIGS[method]
        for name in path:
            value = getattr(value, name)
        assert not isinstance(value, Real) or path == ("seed",) or abs(value) < LARGEST


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--optim.warmup-epochs", "1e308"], "optim.warmup_epochs"),
        (["--monitor.every-epochs", "1e308"], "monitor.every_epochs"),
        (["--epochs", "1" + "0" * 30], "epochs"),
        (["--network.projector-width", "1" + "0" * 30], "network.projector_width"),
        (["--views", "100000"], "--views"),
        (["--probe-data", ""], "--probe-data"),
        (["--recipe", "os.path:join"], "a function without arguments"),
        (["--recipe", "os:name"], "a function without arguments"),
        (["--recipe", "pathlib:Path"], "a function without arguments"),
        (["--recipe", "../x:y"], "written as in Python"),
        (["--recipe", "no_such_module:y"], "no_such_module"),
        (["--method", "vic\nreg"], "vic\\nreg"),
        (["--method", "..x.y"], "..x.y"),
        (["--method", "../x.y"], "../x.y"),
        (["--encoder", ""], "--encoder"),
    ],
)
def test_options_beyond_all_measure_are_one_line(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pretrain", *args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
