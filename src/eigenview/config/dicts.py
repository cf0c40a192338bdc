"""Configs as plain dictionaries: for config.json, for `pretrain(**fields)`, for comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from eigenview.config.augment import AugmentConfig
from eigenview.config.names import renamed, upgrade
from eigenview.config.run import RunConfig
from eigenview.config.sections import LoaderConfig, MonitorConfig, NetworkConfig, OptimConfig, ProbeConfig
from eigenview.config.types import check_fields
from eigenview.errors import UserError, nearest
from eigenview.records import MethodConfig


def method_name(config: MethodConfig) -> str:
    """The name under which `--method` finds a config's class: its card's, or its module's if that is not ours."""
    module = type(config).__module__.removesuffix(".declared")
    return config.card.name if module.startswith("eigenview.methods.") else module


def to_dict(config: RunConfig[Any]) -> dict[str, Any]:
    """A config as plain JSON-ready values; the method's options are beside its name."""
    values = dataclasses.asdict(config)
    return values | {"method": {"name": method_name(config.method), **values["method"]}}


def with_fields(config: Any, fields: Mapping[str, Any], where: str = "") -> Any:
    """`config` with some fields replaced; a nested dict goes into a nested config."""
    known = {f.name for f in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    for name, value in fields.items():
        _require_field(name, value, known, where)
        nested = getattr(config, name)
        into = isinstance(value, Mapping) and dataclasses.is_dataclass(nested)
        changes[name] = with_fields(nested, value, f"{where}{name}.") if into else value
    check_fields(type(config), changes, where)
    return dataclasses.replace(config, **changes)


def _require_field(name: str, value: Any, known: set[str], where: str) -> None:
    """Raises UserError for a field that does not exist: its name today, or the nearest one, or all of them."""
    if name not in known:
        way = renamed(where, name) or nearest(name, sorted(known)) or f"Its fields are {', '.join(sorted(known))}."
        raise UserError(f"{where}{name} is {value!r}, but there is no such option. {way}")


def changed_fields(config: Any, default: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of the fields in which `config` differs from `default`."""
    changed: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        ours, theirs = getattr(config, f.name), getattr(default, f.name, None)
        if dataclasses.is_dataclass(ours) and type(ours) is type(theirs):
            changed |= changed_fields(ours, theirs, f"{prefix}{f.name}.")
        elif ours != theirs:
            changed[prefix + f.name] = dataclasses.asdict(ours) if dataclasses.is_dataclass(ours) else ours  # type: ignore[arg-type]
    return changed


def from_dict(values: dict[str, Any], method_type: type[MethodConfig]) -> RunConfig[Any]:
    """The RunConfig written by `to_dict`, also by an earlier version (`config_names.upgrade`).

    Raises: UserError for an unknown field, with its name.
    """

    def build(cls: type, given: dict[str, Any], where: str) -> Any:
        known = {f.name for f in dataclasses.fields(cls)}
        for name, value in given.items():
            _require_field(name, value, known, where)
        check_fields(cls, given, where)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})

    parts = {"network": NetworkConfig, "optim": OptimConfig, "loader": LoaderConfig, "monitor": MonitorConfig}
    parts |= {"augment": AugmentConfig, "probe": ProbeConfig, "method": method_type}
    values = upgrade(values)
    for name in ("method", *parts):
        if not isinstance(values.get(name, {}), Mapping):
            raise UserError(f"{name} is {values[name]!r}; expected an object with named fields.")
    values["method"] = {name: value for name, value in values["method"].items() if name != "name"}
    made = {n: build(parts[n], v, f"{n}.") if n in parts else v for n, v in values.items()}
    return build(RunConfig, made, "")
