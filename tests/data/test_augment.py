"""Batched augmentation against torchvision, image by image, with equal parameters."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from eigenview.data.views import augment as module
from eigenview.data.views.augment import apply, augment, prepare, to_uint8
from eigenview.data.views.draw import Params, draw
from eigenview.data.views.presets import KINDS, PRESETS, view_specs
from eigenview.data.views.specs import ViewSpec
from eigenview.errors import UserError

ROUNDING = 2e-6  # float32 rounding of sums over a few hundred terms in [0, 1]
PLAIN = replace(PRESETS["none"].specs[0], mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
# Everything of the published presets switched on, also what none of them combines; and all operations there are.
FULL = ViewSpec(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, solarize=0.3)
ALL = replace(FULL, vertical_flip=0.5, quarter_turn=0.75, rotate=0.5, noise=0.5, erase=0.5)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, side: int, seed: int = 0) -> torch.Tensor:
    """Smooth colour fields plus noise: all hues, no constant image."""
    coarse = torch.rand(n, 3, 4, 4, generator=seeded(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    noise = 0.1 * torch.randn(n, 3, side, side, generator=seeded(seed + 1))
    return smooth.add(noise).mul(255).round().clamp(0, 255).to(torch.uint8)


def torchvision_view(image: torch.Tensor, params: Params, i: int, spec: ViewSpec, size: int) -> torch.Tensor:
    """The same view by torchvision's float kernels, for one image."""
    box = [int(getattr(params, name)[i]) for name in ("top", "left", "height", "width")]
    mode = v2.InterpolationMode(spec.interpolation)
    # A float crop may overshoot with bicubic; the uint8 pipelines saturate there.
    x = F.resized_crop(image.float() / 255, *box, size=[size, size], interpolation=mode, antialias=True).clamp(0, 1)
    if params.flip[i]:
        x = F.horizontal_flip(x)
    if params.vertical_flip is not None and params.vertical_flip[i]:
        x = F.vertical_flip(x)
    if params.quarter_turns is not None:
        x = F.rotate(x, 90.0 * int(params.quarter_turns[i]))
    if params.rotate is not None and params.angle is not None and params.rotate[i]:
        around = F.pad(x, [size // 4 + 2], padding_mode="symmetric")  # the corners reach (sqrt(2) - 1) / 2 sides beyond
        x = F.center_crop(F.rotate(around, float(params.angle[i]), v2.InterpolationMode.BILINEAR), [size, size])
    if params.jitter[i]:
        adjust = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
        factor = [*params.factors[i].tolist(), float(params.hue[i])]
        for operation in params.order[i].tolist():
            x = adjust[operation](x, factor[operation])
    if params.grayscale[i]:
        x = F.rgb_to_grayscale(x, num_output_channels=3)
    if params.blur[i]:
        kernel = spec.kernel_width(size)
        x = F.gaussian_blur(x, [kernel, kernel], [float(params.sigma[i])] * 2)
    if params.solarize[i]:
        x = F.solarize(x, spec.solarize_threshold)
    if params.noise is not None and params.noise[i]:
        assert params.noise_sigma is not None
        assert params.noise_field is not None
        with patch.object(torch, "randn_like", return_value=params.noise_field[i]):  # its own numbers, given
            x = F.gaussian_noise(x, 0.0, float(params.noise_sigma[i]))
    x = F.normalize(x, list(spec.mean), list(spec.std))
    if params.erase is not None and params.erase_box is not None and params.erase[i]:
        x = F.erase(x, *params.erase_box[i].int().tolist(), v=torch.zeros(1))
    return x


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "size"), [(32, 32), (48, 20), (17, 32), (256, 64)])
def test_crop_and_flip_equal_resized_crop(source, size, interpolation):
    spec = replace(PLAIN, crop_scale=(0.05, 1.0), crop_ratio=(0.5, 2.0), flip=0.5, interpolation=interpolation)
    images = pictures(12, source)
    params = draw(12, spec, source, seeded(3))
    ours = apply(images, params, spec, size)
    theirs = torch.stack([torchvision_view(x, params, i, spec, size) for i, x in enumerate(images)])
    assert params.flip.any()
    assert not params.flip.all()
    torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0, check_stride=False)


@pytest.mark.parametrize("operation", ["brightness", "contrast", "saturation", "hue"])
def test_each_colour_operation(operation):
    amounts = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    spec = replace(PLAIN, jitter=1.0, **(amounts | {operation: 0.5 if operation == "hue" else 1.5}))
    images = pictures(32, 8)
    # Rows of exact ties: gray, primaries, their complements, black and white.
    corners = torch.cartesian_prod(*[torch.tensor([0, 90, 255], dtype=torch.uint8)] * 3)
    images[0, :, :, :3] = corners[:24].T.reshape(3, 8, 3)
    params = draw(32, spec, 8, seeded(4))
    ours = apply(images, params, spec, 8)
    theirs = torch.stack([torchvision_view(x, params, i, spec, 8) for i, x in enumerate(images)])
    assert (ours - images / 255).abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0, check_stride=False)


@pytest.mark.parametrize(("size", "kernel"), [(32, None), (33, 9), (8, 15), (64, 23)])
def test_blur_equals_gaussian_blur(size, kernel):
    spec = replace(PLAIN, blur=1.0, blur_kernel=kernel)
    images = pictures(6, size)
    params = draw(6, spec, size, seeded(5))
    ours = apply(images, params, spec, size)
    theirs = torch.stack([torchvision_view(x, params, i, spec, size) for i, x in enumerate(images)])
    torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0, check_stride=False)


@pytest.mark.parametrize("preset", [*PRESETS, *KINDS, "published", "everything"])
@pytest.mark.parametrize(("source", "size"), [(32, 32), (80, 48)])
def test_whole_chain(preset, source, size):
    """Rounding is amplified where the chain is steep: near a solarisation's jump, and by factors up to 1.8 a step.

    So: nearly all values equal to 1e-5 in [0, 1] units, a few in ten thousand at most off by more.
    """
    mixed = {"published": (FULL,), "everything": (ALL,)}
    for spec in mixed[preset] if preset in mixed else view_specs(preset, 2):
        images = pictures(40, source, seed=6)
        params = draw(40, spec, source, seeded(7), size=size)
        ours = apply(images, params, spec, size)
        theirs = torch.stack([torchvision_view(x, params, i, spec, size) for i, x in enumerate(images)])
        error = (ours - theirs).abs() * torch.tensor(spec.std)[:, None, None]
        steep = 2.0 if spec.rotate else 1.0  # positions between pixels are rounded too
        assert (error > steep * 1e-5).float().mean() < (5e-4 if spec.solarize else 1e-6)
        if not spec.solarize:
            assert error.max() < steep * 2e-5


def test_float_chain_stays_near_the_pil_pipeline():
    """PIL rounds to uint8 after each step and quantises hue to 1/256: a quarter of a grey level after the crop alone
    (rounding errors are uniform within half a level), a few levels after strong colour jitter. A wrong formula is tens
    off.
    """
    spec = replace(FULL, solarize=0.0, blur=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    images = pictures(24, 40)
    params = draw(24, spec, 40, seeded(8))
    ours = apply(images, params, spec, 32)
    adjust = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    for i, image in enumerate(images):
        box = [int(getattr(params, name)[i]) for name in ("top", "left", "height", "width")]
        x = F.resized_crop(F.to_pil_image(image), *box, size=[32, 32])
        x = F.horizontal_flip(x) if params.flip[i] else x
        if params.jitter[i]:
            for operation in params.order[i].tolist():
                x = adjust[operation](x, [*params.factors[i].tolist(), float(params.hue[i])][operation])
        x = F.rgb_to_grayscale(x, num_output_channels=3) if params.grayscale[i] else x
        levels = 255 * (F.pil_to_tensor(x) / 255 - ours[i]).abs().mean()
        assert levels < (4 if params.jitter[i] else 0.5)


def test_same_generator_state_same_view():
    images = pictures(40, 32)
    first, again, other = (augment(images, ALL, 32, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    generator = seeded(9)
    one, state = augment(images, ALL, 32, generator), generator.get_state()
    two = augment(images, ALL, 32, generator)
    generator.set_state(state)
    assert not torch.equal(one, two)
    assert torch.equal(two, augment(images, ALL, 32, generator))


def test_global_generator_is_untouched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    augment(pictures(4, 16), ALL, 16, seeded(1))
    assert torch.equal(before, torch.get_rng_state())


def test_gpu_and_cpu_paths_are_identical():
    images = pictures(10, 32)
    params = draw(10, ALL, 32, seeded(12))
    masked, indexed = (apply(images, params, ALL, 32, dense=dense) for dense in (True, False))
    assert torch.equal(masked, indexed)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "size"), [(300, 32), (32, 128)])
def test_large_images_resized_one_by_one_agree_with_matrices(source, size, interpolation):
    """Sums in another order: equal to rounding, but for pixels at the jump of a solarisation."""
    spec = replace(ALL, interpolation=interpolation)
    images = pictures(10, source)
    params = draw(10, spec, source, seeded(12), size=size)
    batched, single = (apply(images, params, spec, size, dense=dense) for dense in (True, False))
    assert ((batched - single).abs() > 1e-4).float().mean() < 5e-4
    spec = replace(spec, solarize=0.0)
    batched, single = (apply(images, params, spec, size, dense=dense) for dense in (True, False))
    torch.testing.assert_close(batched, single, atol=1e-4, rtol=0)


def test_gpu_path_never_asks_for_a_value():
    """A fake tensor has no values: reading one (nonzero, item, a branch) raises."""
    params = draw(6, ALL, 32, seeded(13), size=24)
    images = pictures(6, 32)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = params.mapped(mode.from_tensor)
        view = apply(mode.from_tensor(images), fake, ALL, 24, dense=True)
        assert view.shape == (6, 3, 24, 24)
        with pytest.raises(torch._subclasses.fake_tensor.DynamicOutputShapeException):
            fake.blur.nonzero()


@pytest.mark.gpu
def test_cuda_equals_cpu_without_waiting():
    spec = replace(ALL, solarize=0.0)
    params = draw(64, spec, 64, seeded(14), size=48)
    images = pictures(64, 64)
    moved = params.mapped(torch.Tensor.cuda)
    generator = torch.Generator("cuda").manual_seed(0)
    on_gpu = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours = apply(on_gpu, moved, spec, 48)
        augment(on_gpu, ALL, 48, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(ours.cpu(), apply(images, params, spec, 48), atol=1e-4, rtol=0)


def test_chunks_do_not_change_the_view(monkeypatch):
    images = pictures(21, 24)
    params = draw(21, ALL, 24, seeded(15))
    whole = apply(images, params, ALL, 24, dense=True)
    monkeypatch.setattr(module, "CPU_CHUNK", 4 * 24 * 24)
    torch.testing.assert_close(apply(images, params, ALL, 24, dense=True), whole, atol=ROUNDING, rtol=0)


def test_result_is_float32_channels_last_also_under_autocast():
    images = pictures(4, 32)
    plain = augment(images, FULL, 24, seeded(16))
    assert plain.dtype == torch.float32
    assert plain.is_contiguous(memory_format=torch.channels_last)
    assert not plain.requires_grad
    evaluated = prepare(images, 24, FULL.mean, FULL.std)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment(images, FULL, 24, seeded(16)), plain)
        assert torch.equal(prepare(images, 24, FULL.mean, FULL.std), evaluated)


def test_images_are_not_changed():
    images = pictures(8, 32)
    kept = images.clone()
    augment(images, FULL, 32, seeded(17))
    assert torch.equal(images, kept)


def test_no_images():
    assert augment(torch.empty(0, 3, 16, 16, dtype=torch.uint8), FULL, 8, seeded(0)).shape == (0, 3, 8, 8)


def test_probability_zero_and_one_leave_no_choice():
    images = pictures(16, 12)
    mirrored = augment(images, replace(PLAIN, flip=1.0), 12, seeded(22))
    torch.testing.assert_close(mirrored, images.flip(3) / 255, atol=ROUNDING, rtol=0, check_stride=False)
    gray = augment(images, replace(PLAIN, grayscale=1.0), 12, seeded(22))
    assert torch.equal(gray[:, 0], gray[:, 1])
    inverted = augment(images, replace(PLAIN, solarize=1.0, solarize_threshold=0.0), 12, seeded(22))
    torch.testing.assert_close(inverted, 1 - images / 255, atol=ROUNDING, rtol=0, check_stride=False)


@pytest.mark.parametrize("preset", PRESETS)
def test_to_uint8_undoes_the_normalisation(preset):
    spec = PRESETS[preset].specs[0]
    images = pictures(5, 32)
    assert torch.equal(to_uint8(prepare(images, 32, spec.mean, spec.std), spec), images)


def test_nothing_random_in_the_preset_none():
    images = pictures(5, 32)
    (spec,) = PRESETS["none"].specs
    view = augment(images, spec, 24, seeded(23))
    torch.testing.assert_close(view, prepare(images, 24, spec.mean, spec.std), atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "size", "crop"), [(40, 24, 1.0), (20, 32, 1.0), (64, 56, 0.875), (32, 28, 0.875)])
def test_prepare_equals_centre_crop_and_resize(source, size, crop, interpolation):
    images = pictures(4, source)
    ours = prepare(images, size, FULL.mean, FULL.std, crop=crop, interpolation=interpolation)
    middle = F.center_crop(images.float() / 255, [round(crop * source)] * 2)
    mode = v2.InterpolationMode(interpolation)
    resized = F.resize(middle, [size, size], interpolation=mode, antialias=True).clamp(0, 1)
    theirs = F.normalize(resized, list(FULL.mean), list(FULL.std))
    torch.testing.assert_close(ours, theirs, atol=5 * ROUNDING, rtol=0, check_stride=False)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 9, dtype=torch.uint8), r"images.shape is \(2, 3, 8, 9\)"),
        (torch.zeros(2, 0, 8, 8, dtype=torch.uint8), "images.shape"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "images.shape"),
        (torch.zeros(2, 3, 8, 8), "images.dtype is 'torch.float32'.*uint8"),
    ],
)
def test_wrong_images_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        augment(images, FULL, 8, seeded(0))
    with pytest.raises(UserError, match=message):
        prepare(images, 8, FULL.mean, FULL.std)


def test_wrong_settings_are_refused():
    images = pictures(2, 8)
    with pytest.raises(UserError, match="size is 1"):
        augment(images, FULL, 1, seeded(0))
    with pytest.raises(UserError, match=r"crop is 1\.5"):
        prepare(images, 8, FULL.mean, FULL.std, crop=1.5)
    with pytest.raises(UserError, match="blur_kernel is 99"):
        augment(images, replace(FULL, blur_kernel=99), 8, seeded(0))


def test_it_takes_one_thread_and_leaves_their_number_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def failing(*_: object, **__: object) -> None:
        seen.append(torch.get_num_threads())
        raise ZeroDivisionError

    before, spec = torch.get_num_threads(), view_specs("simclr-small", 2)[0]
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    torch.set_num_threads(2)
    try:
        augment(images, spec, 32, torch.Generator().manual_seed(0))
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(module, "apply", failing)
        with pytest.raises(ZeroDivisionError):
            augment(images, spec, 32, torch.Generator().manual_seed(0))
        assert torch.get_num_threads() == 2
        assert seen == [1]
    finally:
        torch.set_num_threads(before)
