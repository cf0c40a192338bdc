"""ViewSpec refuses impossible values and the presets are the published ones."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from eigenview.data.views.presets import KINDS, PRESETS, preset_for_size, require_preset, view_specs
from eigenview.data.views.specs import ViewSpec
from eigenview.errors import UserError

BAD = {
    "flip": 1.5,
    "jitter": -0.1,
    "brightness": -1.0,
    "contrast": float("nan"),
    "hue": 0.6,
    "blur": 2.0,
    "vertical_flip": float("nan"),
    "quarter_turn": 1.01,
    "rotate": -0.1,
    "rotate_angle": 181.0,
    "noise": 2.0,
    "noise_sigma": (0.2, 0.1),
    "erase": -1.0,
    "erase_scale": (0.5, 1.5),
    "erase_ratio": (0.0, 1.0),
    "own": "no-module",
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
    with pytest.raises(UserError, match=rf"augment\.{name} is .*allowed"):
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


COLOUR = ("saturation", "hue", "grayscale", "solarize")


def test_kinds_of_images_change_what_their_sentence_says():
    natural = view_specs("asymmetric", 2)
    assert view_specs("natural", 2, natural="asymmetric") == natural == view_specs("auto", 2, natural="asymmetric")
    assert view_specs("natural", 1, natural="simclr") == PRESETS["simclr"].specs
    kinds = {kind: view_specs(kind, 2, natural="asymmetric") for kind in KINDS}
    for kind in ("microscopy", "medical", "document"):
        assert not any(getattr(spec, name) for spec in kinds[kind] for name in COLOUR), kind
    for kind in ("microscopy", "satellite"):  # no up: eight ways to lie, equally likely
        assert {(s.flip, s.vertical_flip, s.quarter_turn) for s in kinds[kind]} == {(0.5, 0.5, 0.75)}, kind
    for kind in ("medical", "document"):
        assert {(s.flip, s.vertical_flip, s.quarter_turn) for s in kinds[kind]} == {(0.0, 0.0, 0.0)}, kind
        assert all(0 < s.rotate_angle <= 10 for s in kinds[kind]), kind
    assert all(spec.grayscale == 0 and 0 < spec.hue < 0.1 for spec in kinds["satellite"])
    assert not any(spec.blur for spec in kinds["medical"])
    for kind, specs in kinds.items():  # what a kind does not name stays the method's own, view by view
        kept = {f.name for f in fields(ViewSpec)} - set(KINDS[kind].changes)
        for ours, own in zip(specs, natural, strict=True):
            assert {name: getattr(ours, name) for name in kept} == {name: getattr(own, name) for name in kept}
        assert all(spec.brightness > 0 and spec.contrast > 0 for spec in specs)


def test_unknown_kind_suggests_the_nearest():
    with pytest.raises(UserError, match=r"--augmentation microscope: .*Did you mean microscopy\?.*natural"):
        require_preset("microscope")
    for name in ("auto", *KINDS, *PRESETS):
        require_preset(name)


def test_summary_names_what_is_done_and_nothing_else():
    (spec,) = PRESETS["none"].specs
    assert spec.summary(32, 3) == "crop 1 to 1 of the area"
    spec = replace(spec, vertical_flip=0.5, jitter=0.8, rotate=0.25, rotate_angle=10.0, blur=1.0, own="a.b:c")
    assert spec.summary(32, 3) == (
        "crop 1 to 1 of the area, vertical flip 0.5, rotate 0.25 (up to 10 degrees), jitter 0.8 (brightness 0.4, "
        "contrast 0.4, saturation 0.4, hue 0.1), blur 1 (sigma 0.1 to 2 px, kernel 3 px), own a.b:c"
    )
    for channels in (1, 2, 5):  # as augment.py: without red, green and blue there is no saturation, hue or grayscale
        assert replace(spec, rotate=0, blur=0, own=None, grayscale=0.2).summary(32, channels) == (
            "crop 1 to 1 of the area, vertical flip 0.5, jitter 0.8 (brightness 0.4, contrast 0.4)"
        )


def test_import_is_free_of_torch():
    code = "import sys, eigenview.data.views.specs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
