"""ViewSpec refuses impossible values and the presets are the published ones."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from eigenview.data.views.specs import PRESETS, ViewSpec, preset_for_size, view_specs
from eigenview.errors import UserError

BAD = {
    "flip": 1.5,
    "jitter": -0.1,
    "brightness": -1.0,
    "contrast": float("nan"),
    "hue": 0.6,
    "blur": 2.0,
    "crop_scale": (0.5, 0.2),
    "crop_ratio": (0.0, 1.0),
    "blur_sigma": (0.0, 2.0),
    "blur_kernel": 4,
    "solarize_threshold": 1.1,
    "std": (0.2, 0.0, 0.2),
    "mean": (0.5, 0.5),
    "interpolation": "nearest",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_value_is_named(name):
    with pytest.raises(UserError, match=rf"augmentation\.{name} is .*allowed"):
        replace(ViewSpec(), **{name: BAD[name]})


def test_scale_above_one_is_refused():
    with pytest.raises(UserError, match="crop_scale"):
        ViewSpec(crop_scale=(0.5, 1.2))


def test_simclr_strength_one():
    (spec,) = PRESETS["simclr"].specs
    assert (spec.brightness, spec.contrast, spec.saturation, spec.hue) == (0.8, 0.8, 0.8, 0.2)
    assert (spec.jitter, spec.grayscale, spec.blur, spec.solarize, spec.flip) == (0.8, 0.2, 0.5, 0.0, 0.5)


def test_asymmetric_pair_differs_in_blur_and_solarisation_only():
    first, second = PRESETS["asymmetric"].specs
    differs = {f.name for f in fields(ViewSpec) if getattr(first, f.name) != getattr(second, f.name)}
    assert differs == {"blur", "solarize"}
    assert (first.blur, second.blur, first.solarize, second.solarize) == (1.0, 0.1, 0.0, 0.2)
    assert (first.brightness, first.contrast, first.saturation, first.hue) == (0.4, 0.4, 0.2, 0.1)


def test_pair_alternates_over_views():
    first, second = PRESETS["asymmetric"].specs
    assert view_specs("asymmetric", 5) == (first, second, first, second, first)
    assert view_specs("simclr", 3) == PRESETS["simclr"].specs * 3


def test_unknown_preset_suggests_the_nearest():
    with pytest.raises(UserError, match="Did you mean simclr"):
        view_specs("simclrr", 2)
    with pytest.raises(UserError, match="--views is 0"):
        view_specs("simclr", 0)


@pytest.mark.parametrize(
    ("preset", "size", "expected"),
    [
        ("simclr", 64, "simclr-small"),
        ("simclr", 65, "simclr"),
        ("asymmetric", 32, "asymmetric-small"),
        ("digits", 32, "digits"),
        ("simclr-small", 32, "simclr-small"),
    ],
)
def test_small_images_take_the_small_preset(preset, size, expected):
    assert preset_for_size(preset, size) == expected


@pytest.mark.parametrize(("size", "width"), [(8, 3), (32, 3), (64, 7), (96, 9), (224, 23)])
def test_kernel_is_about_a_tenth_of_the_side(size, width):
    assert ViewSpec().kernel_width(size) == width


def test_kernel_too_wide_for_the_view():
    assert ViewSpec(blur_kernel=15).kernel_width(8) == 15
    with pytest.raises(UserError, match=r"blur_kernel is 17.*at most 15 for views of 8 px"):
        ViewSpec(blur_kernel=17).kernel_width(8)


def test_import_is_free_of_torch():
    code = "import sys, eigenview.data.views.specs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
