"""Options of earlier versions: on the command line and from Python they are answered with today's name, and a
config.json that an earlier version wrote is read as today's configuration."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from eigenview import runfiles
from eigenview.cli import run
from eigenview.config import from_dict, to_dict, with_fields
from eigenview.config.names import FLAGS, REMOVED, RENAMED, refuse_old_flags, upgrade
from eigenview.errors import UserError
from eigenview.methods import METHODS, config_class
from eigenview.recipes import default
from eigenview.run import read_config

# as version b4ae3ee wrote it for --method directpred on the digits, whole
OLD: dict[str, Any] = json.loads("""{
"data": "digits", "probe_data": null, "data_fraction": 1.0, "stratified": false, "method": "directpred", "epochs": 60,
"batch_size": 128, "micro_batch": null, "accumulate": 1, "accumulate_coupled": false, "views": 2, "local_views": 0,
"local_size": null, "local_scale": [0.05, 0.4], "encoder": "conv-tiny", "second_encoder": null, "size": null, "seed": 0,
"devices": 1, "precision": "auto", "augmentation": "auto", "compile_augmentation": false,
"objective": {"alpha": 0.5, "rho": 0.3, "eps": 0.01, "eps_inside": false, "floor": 0.0001, "normalise_by": "spectral",
  "centre": false, "refresh_every": 1, "initial": "batch", "order": "after", "normalise": true},
"network": {"stem": "auto", "projector_hidden": 512, "projector_width": 128, "projector_layers": 2,
  "projector_last_norm": false, "head_norm": "batch", "encoder_norm": "batch", "predictor_layers": 2,
  "predictor_hidden": 512, "predictor_bias": true, "predictor_symmetric": false, "target": "auto",
  "target_momentum": 0.99, "target_momentum_end": 1.0, "target_schedule": "cosine", "branches": "shared"},
"optim": {"name": "adamw", "lr_per_256": 0.0028, "batch_scaling": "sqrt", "predictor_lr_factor": 1.0,
  "predictor_weight_decay": null, "weight_decay": 0.0001, "momentum": 0.9, "trust_coefficient": 0.001,
  "warmup_epochs": 1.0, "final_fraction": 0.0},
"loader": {"workers": 2, "cache_gb": 4.0, "strict": false},
"monitor": {"images": 512, "every_epochs": 1.0, "checkpoint_minutes": 2.0, "log_every_steps": 10,
  "stop_on_collapse": false},
"probe": {"images": null, "knn_k": 20, "knn_temperature": 0.07, "labels_per_class": 10, "few_label_draws": 5}}""")
CLOSED_FORM: dict[str, Any] = {"normalise_by": "spectral", "centre": False, "initial": "batch", "order": "after"}
CLOSED_FORM |= {"eps_inside": False, "floor": 0.0001, "refresh_every": 1}
# what the same version wrote for the other methods, with the options of their recipes for the digits
OBJECTIVES: dict[str, dict[str, Any]] = {
    "simclr": {"temperature": 0.2, "positives": "outside", "multiview": "pairs"},
    "directclr": {"d0": 64, "temperature": 0.1, "site": "representation", "subset": "first", "seed": 0},
    "infonce": {"eps": 1.0, "temperature": 1.0, "reduction": "mean"},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0, "gamma": 1.0, "eps": 0.0001}
    | {"multiview": "pairs", "convention": "code"},
    "unbiased-vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 4.0, "hinge": "plugin", "gamma": 1.0}
    | {"form": "off-diagonal", "eps": 0.0001, "statistics": "global", "rho": 0.9},
    "barlow-twins": {"off_diagonal": 0.01, "eps": 1e-05, "estimator": "plugin", "multiview": "pairs"}
    | {"normalise": False, "scale": 1.0},
    "byol": {"variance": 0.0, "covariance": 0.0, "site": "projector", "gamma": 1.0, "normalise": True}
    | {"stop_gradient": True},
    "simsiam": {"variance": 0.0, "covariance": 0.0, "site": "projector", "gamma": 1.0, "stop_gradient": True},
    "directcopy": {**CLOSED_FORM, "alpha": 1.0, "rho": 0.5, "eps": 0.3, "normalise": True},
    "directpred": OLD["objective"],
    "directset": {**CLOSED_FORM, "alpha": 1.0, "rho": 0.5, "eps": 0.3, "normalise": True},
    "isoloss": {**CLOSED_FORM, "alpha": 0.5, "rho": 0.998, "eps": 0.0, "eps_inside": True, "floor": 0.0}
    | {"metric": "cosine", "form": "straight-through"},
}


def old(method: str = "directpred", objective: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The config.json of an earlier version, with some fields replaced."""
    values = copy.deepcopy(OLD) | {"method": method, "objective": {**OBJECTIVES[method], **(objective or {})}}
    for name, value in fields.items():
        values[name] = {**values[name], **value} if isinstance(value, dict) else value
    return values


def test_a_whole_config_of_an_earlier_version_is_todays_recipe() -> None:
    assert from_dict(OLD, config_class("directpred")).decided() == default("directpred", "digits").decided()


@pytest.mark.parametrize("method", METHODS)
def test_the_options_of_every_method_are_read(method: str) -> None:
    config = from_dict(old(method), config_class(method))
    assert config.method == default(method, "digits").method
    again = json.loads(json.dumps(to_dict(config)))
    assert from_dict(again, config_class(method)) == config


def test_renamed_fields_keep_their_values() -> None:
    values = old(
        "vicreg",
        {"covariance": 3.0},
        size=24,
        micro_batch=16,
        accumulate=2,
        accumulate_coupled=True,
        network={"branches": "separate"},
    )
    config = from_dict(values, config_class("vicreg"))
    assert (config.image_size, config.grad_cache_chunk, config.grad_accum_steps) == (24, 16, 2)
    assert config.grad_accum_coupled
    assert not config.network.shared_weights
    assert config.method.covariance == 3.0


def test_todays_values_are_left_as_they_are() -> None:
    today = to_dict(default("isoloss", "digits"))
    assert upgrade(today) == today
    assert upgrade(upgrade(OLD)) == upgrade(OLD)
    assert OLD["method"] == "directpred"  # the given values are not changed
    assert "branches" in OLD["network"]


REMOVED_VALUES = [
    ("directpred", "eps_inside", True),
    ("directcopy", "normalise_by", "frobenius"),
    ("directpred", "centre", True),
    ("directset", "initial", "zero"),
    ("isoloss", "order", "before"),
    ("isoloss", "form", "value"),
    ("infonce", "reduction", "sum"),
    ("vicreg", "convention", "paper"),
    ("simclr", "positives", "inside"),
]


@pytest.mark.parametrize(("method", "option", "value"), REMOVED_VALUES)
def test_a_removed_option_at_another_value_is_refused_by_name(method: str, option: str, value: Any) -> None:
    """It would be another loss than the one that the run was trained with."""
    with pytest.raises(UserError, match=rf"\b{option} is {value!r}.*\b{OBJECTIVES[method][option]}\b"):
        from_dict(old(method, {option: value}), config_class(method))


def test_where_eps_is_added_does_not_matter_if_it_is_zero_and_there_is_no_floor() -> None:
    """(q + 0)^alpha is q^alpha + 0; with a floor, max(q, floor)^alpha is not max(q^alpha, floor)."""
    values = {"alpha": 0.5, "eps": 0.0, "floor": 0.0, "eps_inside": True}
    config = from_dict(old("directset", values), config_class("directset"))
    assert (config.method.alpha, config.method.eps, config.method.floor) == (0.5, 0.0, 0.0)
    with pytest.raises(UserError, match=r"\beps_inside is True"):
        from_dict(old("directset", values | {"floor": 1e-4}), config_class("directset"))
    assert from_dict(old("isoloss", {"eps_inside": False}), config_class("isoloss")).method.floor == 0
    with pytest.raises(UserError, match=r"\beps_inside is False"):
        from_dict(old("isoloss", {"eps_inside": False, "eps": 0.1}), config_class("isoloss"))


def test_every_removed_option_is_tested() -> None:
    assert {option for _, option, _ in REMOVED_VALUES} == set(REMOVED)


def test_an_option_of_that_name_that_still_exists_is_kept() -> None:
    config = from_dict(old("unbiased-vicreg", {"form": "identity"}), config_class("unbiased-vicreg"))
    assert config.method.form == "identity"


@pytest.mark.parametrize("fields", [{"wings": 2}, {"network": {"wings": 2}}, {"objective": {"wings": 2}}])
def test_an_unknown_field_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"\bwings is 2\b"):
        from_dict(old(**fields), config_class("directpred"))


@pytest.mark.parametrize(("flag", "today"), FLAGS.items())
def test_old_flags_are_answered_with_todays(flag: str, today: str) -> None:
    for args in ([flag, "4"], [f"{flag}=4"]):
        with pytest.raises(UserError, match=rf"{flag}\b.*{today.split()[0]}\b"):
            refuse_old_flags(["digits", "--epochs", "1", *args])
    refuse_old_flags(["digits", today.split()[0], "4"])


def test_options_of_the_objective_are_options_of_the_method() -> None:
    for flag, today in (
        ("--objective.temperature", "--method.temperature"),
        ("--objective.no-normalise", "--method.no-normalise"),
        ("--objective.form", "--method.form"),
    ):
        with pytest.raises(UserError, match=rf"{flag}\b.*{today}\b"):
            refuse_old_flags([f"{flag}=1"])
        refuse_old_flags([f"{today}=1"])


@pytest.mark.parametrize("option", sorted(set(REMOVED) - {"form"}))
def test_a_removed_option_is_not_answered_with_a_name_that_does_not_exist(option: str) -> None:
    with pytest.raises(UserError, match=rf"--objective\.{option.replace('_', '-')}\b") as error:
        refuse_old_flags([f"--objective.{option.replace('_', '-')}", "1"])
    assert "--method." not in str(error.value)
    assert all(option not in config_class(method).__dataclass_fields__ for method in METHODS)


def test_the_command_line_refuses_them_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["pretrain", "--micro-batch", "8", "--out", str(out)]) == 2
    printed = capsys.readouterr().err
    assert "--micro-batch" in printed
    assert "--grad-cache-chunk" in printed
    assert len(printed.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *(({name: 1}, rf"\b{name} is 1\b.*\b{today}\b") for name, today in RENAMED.items()),
        ({"objective": {"covariance": 1}}, r"\bobjective is .*\bmethod\b"),
        ({"network": {"branches": "separate"}}, r"network\.branches is 'separate'.*shared_weights=False"),
    ],
)
def test_old_fields_from_python_are_answered_with_todays(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_fields(default("vicreg", "digits"), fields)


FOREIGN = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from eigenview.records import Card, MethodConfig

Path(__file__).with_name("imported").touch()


@dataclass(frozen=True, kw_only=True)
class ForeignConfig(MethodConfig):
    card: ClassVar[Card] = Card(name="foreign", title="Foreign", paper="none", summary="none")
    strength: float = 1.0
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an importable module that leaves a file when it is executed, and a run that names it."""
    package = tmp_path / "somebody"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "foreign.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(str(tmp_path))
    values = to_dict(default("vicreg", "digits")) | {"method": {"name": "somebody.foreign", "strength": 2.0}}
    run = tmp_path / "run"
    run.mkdir()
    (run / runfiles.CONFIG).write_text(json.dumps(values))
    yield tmp_path
    for name in ("somebody", "somebody.foreign"):
        sys.modules.pop(name, None)


def test_a_config_file_does_not_decide_what_is_imported(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"config\.json.*\bsomebody\.foreign\b.*--method somebody\.foreign"):
        read_config(foreign / "run")
    with pytest.raises(UserError, match=r"\bsomebody\.foreign\b"):
        read_config(foreign / "run", trusted_method="somebody.else")
    assert run(["pretrain", "--resume", "--out", str(foreign / "run")]) == 2
    assert "somebody.foreign" in capsys.readouterr().err
    assert not (foreign / "somebody" / "imported").exists()
    assert "somebody" not in sys.modules


def test_a_trusted_module_is_imported(foreign: Path) -> None:
    config = read_config(foreign / "run", trusted_method="somebody.foreign")
    assert (foreign / "somebody" / "imported").exists()
    assert config.method.card.name == "foreign"
    assert config.method.strength == 2.0
    assert read_config(foreign / "run") == config  # it is imported already


@pytest.mark.parametrize("method", [None, 3, "no-such", {"name": None}, {"name": 3}, ["vicreg"], {"name": "os.path"}])
def test_a_file_that_names_no_method_is_refused(method: Any, tmp_path: Path) -> None:
    values = to_dict(default("vicreg", "digits")) | {"method": method}
    (tmp_path / runfiles.CONFIG).write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"method|MethodConfig"):
        read_config(tmp_path)


def test_a_run_directory_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / runfiles.CONFIG).write_text(json.dumps(OLD))
    assert read_config(tmp_path).decided() == default("directpred", "digits").decided()
