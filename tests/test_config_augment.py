"""The section `augment`: typed as written in the help, checked, kept in config.json, and the views that it makes."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eigenview.cli import run
from eigenview.commands.grouped import field_docs
from eigenview.commands.pretrain import parsed
from eigenview.config import AugmentConfig, RunConfig, from_dict, to_dict, with_fields
from eigenview.data.views.presets import PRESETS, view_specs
from eigenview.data.views.specs import ViewSpec
from eigenview.engine.views import check_augmentation, run_specs
from eigenview.errors import UserError
from eigenview.methods import config_class
from eigenview.recipes import default
from eigenview.report.configuration import changed_options, option
from tests.data.test_own_transform import negative, own, same, takes_one

TYPED: dict[str, dict[str, Any]] = {
    "--augment.solarize 0.0,0.2 --augment.crop-scale 0.2:1.0 --augment.blur-kernel 5 --augment.interpolation bicubic "
    "--augment.mean 0.5,0.4,0.3 --augment.own a.b:c --augment.hue None": {
        "solarize": (0.0, 0.2),
        "crop_scale": (0.2, 1.0),
        "blur_kernel": 5,
        "interpolation": "bicubic",
        "mean": (0.5, 0.4, 0.3),
        "own": "a.b:c",
    },
    "--augment.vertical-flip=0.5 --augment.crop-scale 0.2:1,0.4:1 --augment.blur-kernel=3,5 --augment.interpolation "
    "bicubic,bilinear --augment.mean 0.5 --augment.std 0.2 --augment.own a.b:c,d:e": {
        "vertical_flip": 0.5,
        "crop_scale": ((0.2, 1.0), (0.4, 1.0)),
        "blur_kernel": (3, 5),
        "interpolation": ("bicubic", "bilinear"),
        "mean": (0.5,),
        "std": (0.2,),
        "own": ("a.b:c", "d:e"),
    },
}


@pytest.mark.parametrize("text", TYPED, ids=["one value", "one a view"])
def test_the_command_line_and_python_say_the_same(text: str) -> None:
    config, _ = parsed(["digits", *text.split()])
    assert config.augment == AugmentConfig(**TYPED[text])
    assert config == with_fields(default("vicreg", "digits"), {"augment": TYPED[text]})
    stored = json.loads(json.dumps(to_dict(config)))
    assert from_dict(stored, config_class("vicreg")) == config


def test_the_help_shows_values_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of a recipe, which may set some."""
    with pytest.raises(SystemExit):
        run(["pretrain", "--recipe", "tests.test_config_augment:recipe", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for flag, value in (
        ("--augment.crop-scale LOW:HIGH[,LOW:HIGH...]", "0.2:1.0"),
        ("--augment.noise-sigma LOW:HIGH[,LOW:HIGH...]", "0.1:0.2,0.3:0.4"),
        ("--augment.flip X[,X...]", "0.0,0.5"),
        ("--augment.mean X,X,X", "0.5,0.4,0.3"),
        ("--augment.hue X[,X...]", "None"),
    ):
        text = shown[shown.index(flag) :]
        assert f"(default: {value})" in text[: text.index("--augment", 5)], flag


def recipe() -> RunConfig[Any]:
    changes = {"crop_scale": (0.2, 1.0), "noise_sigma": ((0.1, 0.2), (0.3, 0.4)), "flip": (0.0, 0.5)}
    return photos(augment={**changes, "mean": (0.5, 0.4, 0.3)})


def test_the_report_shows_what_is_set_as_it_is_typed() -> None:
    stored, plain = (json.loads(json.dumps(to_dict(config))) for config in (recipe(), photos()))
    changed = changed_options(stored, plain)
    assert {name: option(value) for name, (value, _) in changed.items()} == {
        "augment.crop_scale": "0.2, 1",
        "augment.noise_sigma": "0.1:0.2, 0.3:0.4",
        "augment.flip": "0, 0.5",
        "augment.mean": "0.5, 0.4, 0.3",
    }
    assert {option(default) for _, default in changed.values()} == {"not set"}


def test_every_field_of_a_view_can_be_set_and_has_help() -> None:
    names = {field.name for field in dataclasses.fields(AugmentConfig)}
    assert names == {field.name for field in dataclasses.fields(ViewSpec)} - {"size"}  # --image-size
    assert set(field_docs(AugmentConfig)) == names


def test_a_config_of_an_earlier_version_has_no_changes() -> None:
    stored = to_dict(default("byol", "digits"))
    del stored["augment"]
    assert from_dict(stored, config_class("byol")).augment == AugmentConfig()


def photos(method: str = "vicreg", /, **fields: Any) -> RunConfig[Any]:
    return with_fields(default(method, "photos"), {"data": "photos", **fields})


def test_without_changes_the_views_are_the_presets() -> None:
    assert run_specs(photos(), 32) == PRESETS["asymmetric-small"].specs
    assert run_specs(photos(), 96) == PRESETS["asymmetric"].specs
    assert run_specs(photos("simclr", views=3), 96) == PRESETS["simclr"].specs * 3
    assert run_specs(photos(data="digits"), 16) == PRESETS["digits"].specs * 2
    natural = run_specs(photos(data="digits", augmentation="natural"), 16)
    assert natural == PRESETS["asymmetric-small"].specs
    first, second = PRESETS["asymmetric-small"].specs
    local = [replace(spec, size=16, crop_scale=(0.05, 0.4)) for spec in (first, second, first)]
    assert run_specs(photos(local_views=3), 32) == (first, second, *local)
    satellite = run_specs(photos(augmentation="satellite", views=3), 32)
    assert satellite == view_specs("satellite", 3, natural="asymmetric-small")


def test_one_value_is_for_all_views_and_several_are_for_one_each() -> None:
    augment = {
        "solarize": (0.1, 0.2, 0.3),
        "blur": 0.5,
        "crop_scale": (0.5, 1.0),
        "noise_sigma": ((0.1, 0.2), (0.3, 0.4)),
    }
    specs = run_specs(photos(views=3, local_views=2, augment=augment), 32)
    assert [spec.solarize for spec in specs] == [0.1, 0.2, 0.3, 0.1, 0.2]
    assert {spec.blur for spec in specs} == {0.5}
    assert [spec.crop_scale for spec in specs] == [(0.5, 1.0)] * 3 + [(0.05, 0.4)] * 2
    assert [spec.noise_sigma[0] for spec in specs] == [0.1, 0.3, 0.1, 0.1, 0.3]
    first, second, _, *_ = PRESETS["asymmetric-small"].specs * 2
    set_again = {"solarize": 0.0, "blur": 0.0, "crop_scale": first.crop_scale, "noise_sigma": (0.01, 0.1)}
    for spec, preset in zip(specs, (first, second, first), strict=False):
        assert replace(spec, **set_again) == replace(preset, solarize=0.0, blur=0.0)


def test_there_is_a_mean_for_each_channel() -> None:
    one = photos(augment={"mean": (0.5,), "std": (0.2,)})
    assert {(spec.mean, spec.std) for spec in run_specs(one, 32)} == {((0.5,) * 3, (0.2,) * 3)}
    assert {len(spec.mean) for spec in run_specs(photos(), 32, channels=5)} == {5}
    three = photos(augment={"mean": (0.1, 0.2, 0.3)})
    assert {spec.mean for spec in run_specs(three, 32)} == {(0.1, 0.2, 0.3)}


def test_what_is_set_comes_after_what_weights_ask_for() -> None:
    def asked(spec: ViewSpec) -> ViewSpec:
        return replace(spec, mean=(0.5,) * 3, interpolation="bilinear")

    changes = photos(augment={"mean": (0.1, 0.2, 0.3)}, local_views=1)
    for config, mean in ((photos(local_views=1), (0.5,) * 3), (changes, (0.1, 0.2, 0.3))):
        specs = run_specs(config, 32, start=asked)
        assert {(spec.mean, spec.interpolation) for spec in specs} == {(mean, "bilinear")}


def test_functions_are_kept_by_name() -> None:
    assert AugmentConfig(own=negative) == AugmentConfig(own=own(negative))
    config = with_fields(photos(), {"augment": {"own": [negative, same]}})
    assert config.augment.transforms() == (own(negative), own(same))
    assert [spec.own for spec in run_specs(config, 32)] == [own(negative), own(same)]


TYPED_BADLY = {
    "--augment.flip 1.5": "augment.flip is 1.5; allowed: between 0 and 1",
    "--augment.noise x": "x",
    "--augment.crop-scale 0.1:0.2:0.3": "augment.crop_scale",
    "--augment.solarize 0.1,0.2,0.3": "up to 2 (--views 2)",
    "--augment.blur-kernel 33 --augment.blur 1": "blur_kernel is 33; allowed: at most 31 for views of 16 px",
    "--augment.own tests.data.test_own_transform:smaller": "(8, 3, 15, 15)",
    "--augment.own tests.data.test_own_transform:broken": "not finite",
    "--augment.own no_such_module:f": "no_such_module",
    "--augmentation microscopi": "Did you mean microscopy?",
    "--augment.flop 0.5": "Did you mean --augment.flip",
}


@pytest.mark.parametrize("text", TYPED_BADLY)
def test_bad_values_are_one_line_and_nothing_is_written(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run(["pretrain", "digits", *text.split(), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert TYPED_BADLY[text] in error
    assert not out.exists()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"blur": (0.5, -0.5)}, r"augment\.blur is -0\.5; allowed: between 0 and 1"),
    ({"crop_scale": (0.9, 0.2)}, r"augment\.crop_scale is \(0\.9, 0\.2\); allowed: two numbers, smallest first"),
    ({"crop_scale": 0.9}, r"augment\.crop_scale is 0\.9.*finite number, a finite number"),
    ({"crop_ratio": ((0.5, 1.0),) * 3}, r"augment\.crop_ratio.*up to 2 \(--views 2\)"),
    ({"blur_kernel": 4}, r"augment\.blur_kernel is 4; allowed: odd"),
    ({"hue": 0.6}, r"augment\.hue is 0\.6; allowed: between 0 and 0\.5 turns"),
    ({"rotate_angle": 181.0}, r"augment\.rotate_angle is 181\.0; allowed: between 0 and 180"),
    ({"noise": math.nan}, r"augment\.noise is nan"),
    ({"interpolation": "nearest"}, r"augment\.interpolation is 'nearest'.*bilinear, bicubic"),
    ({"mean": (0.5, 0.5)}, r"augment\.mean is \(0\.5, 0\.5\); allowed: finite numbers, one a channel, 3"),
    ({"own": "nothing"}, r"augment\.own is 'nothing'; allowed: MODULE:FUNCTION"),
    ({"flip": "often"}, r"augment\.flip is 'often'.*a finite number"),
    ({"blur": ()}, r"augment\.blur is \(\).*finite number"),
    ({"own": 3}, r"augment\.own is 3.*a function or text"),
    ({"own": lambda views, generator: views}, r"augment\.own.*top of a module"),
    ({"blurr": 0.5}, r"augment\.blurr.*Did you mean blur\?"),
]


@pytest.mark.parametrize(("changes", "said"), BAD)
def test_bad_values_in_python_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        with_fields(photos(), {"augment": changes})


def test_a_transform_takes_two_arguments() -> None:
    with pytest.raises(UserError, match=r"a function \(views, generator\)"):
        check_augmentation(photos(augment={"own": own(takes_one)}))
