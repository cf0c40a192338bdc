"""Encoders on disk: what is written comes back to the bit, and nothing foreign or damaged gets in."""

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch

import eigenview
from eigenview.errors import UserError
from eigenview.models.encoders import build_encoder
from eigenview.models.saved import load_encoder, save_encoder

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def saved(directory: Path, name: str, *, size: int = 16, stem: str = "auto") -> torch.nn.Module:
    """A briefly trained encoder (running statistics moved) in `directory`; gives the network."""
    encoder, width = build_encoder(name, size=size, stem=stem)
    encoder.to(memory_format=torch.channels_last)
    encoder.train()
    with torch.no_grad():
        encoder(torch.randn(4, 3, size, size) + 1)
    card = {"encoder": name, "stem": stem, "size": size, "width": width, "mean": MEAN, "std": STD, "source_size": 20}
    save_encoder(directory, encoder, {**card, "method": "vicreg", "run": {"seed": 3}, "eigenview": "0.1.0"})
    return encoder.eval()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    saved(tmp_path, "conv-tiny")
    return tmp_path


def edit_card(run: Path, **changes: object) -> None:
    path = run / "encoder.json"
    card = {**json.loads(path.read_text()), "checksum": None, **changes}
    path.write_text(json.dumps({name: value for name, value in card.items() if value is not None}))


def edit_weights(run: Path, change) -> None:
    """Replace the weights by changed ones, with a checksum that fits."""
    tensors = safetensors.torch.load_file(run / "encoder.safetensors")
    content = safetensors.torch.save(change(tensors))
    (run / "encoder.safetensors").write_bytes(content)
    edit_card(run, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("name", "size", "stem"),
    [
        ("conv-tiny", 16, "auto"),
        ("conv-small", 16, "auto"),
        ("conv-medium", 16, "auto"),
        ("timm:mobilenetv3_small_050", 32, "auto"),
        ("timm:test_vit", 32, "auto"),
        ("timm:test_resnet", 16, "auto"),
        ("torchvision:resnet18", 16, "small"),
        ("torchvision:resnet18", 16, "standard"),
    ],
)
def test_round_trip_to_the_bit(tmp_path, name, size, stem):
    encoder = saved(tmp_path, name, size=size, stem=stem)
    loaded = load_encoder(tmp_path)
    for key, value in encoder.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value), key
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(loaded(images), encoder.to(memory_format=torch.contiguous_format)(images))
    assert (loaded.size, loaded.mean, loaded.std) == (size, tuple(MEAN), tuple(STD))
    assert loaded.card["run"] == {"seed": 3}
    assert not loaded.training


@pytest.mark.parametrize("file", ["", "encoder.safetensors", "encoder.json"])
def test_the_run_and_either_file_lead_to_the_encoder(run, file):
    assert load_encoder(str(run / file)).name == "conv-tiny"


def test_files_may_be_renamed_together(run):
    for file in ("encoder.safetensors", "encoder.json"):
        (run / file).rename(run / f"mine{Path(file).suffix}")
    assert load_encoder(run / "mine.safetensors").width == 128


def test_loading_leaves_the_random_state_alone(run):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_encoder(run)
    assert torch.equal(torch.rand(3), expected)


def test_embed_prepares_the_images(run):
    encoder = load_encoder(run).train()
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    h = encoder.embed(images, batch_size=2)
    assert encoder.training  # as it was before
    assert not h.requires_grad
    assert h.shape == (5, 128)
    normalised = (images / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        expected = encoder.eval()(normalised)
    torch.testing.assert_close(h, expected, atol=1e-5, rtol=1e-5)
    assert encoder.embed(torch.zeros(2, 3, 40, 40, dtype=torch.uint8)).shape == (2, 128)
    with pytest.raises(UserError, match=r"batch_size.*0.*1"):
        encoder.embed(images, batch_size=0)


def cut(run: Path) -> None:
    path = run / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(run: Path) -> None:
    path = run / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def rename_first(tensors):
    first = next(iter(tensors))
    return {("x" + n if n == first else n): t for n, t in tensors.items()}


DAMAGE = {
    "truncated weights": (cut, r"encoder\.safetensors.*truncated"),
    "empty weights": (lambda run: (run / "encoder.safetensors").write_bytes(b""), r"encoder\.safetensors.*truncated"),
    "no safetensors": (
        lambda run: (run / "encoder.safetensors").write_bytes(b"x" * 999),
        r"encoder\.safetensors.*no safetensors file",
    ),
    "one bit": (flip_a_bit, r"encoder\.safetensors.*SHA-256"),
    "weights gone": (
        lambda run: (run / "encoder.safetensors").unlink(),
        r"encoder\.safetensors is missing",
    ),
    "a key missing": (
        lambda run: edit_weights(run, lambda t: {n: v for n, v in t.items() if n != "0.0.weight"}),
        r"conv-tiny.*0\.0\.weight.*missing",
    ),
    "a key too many": (
        lambda run: edit_weights(run, lambda t: {**t, "fc.weight": torch.zeros(2)}),
        r"conv-tiny.*fc\.weight",
    ),
    "a key renamed": (lambda run: edit_weights(run, rename_first), "conv-tiny.*missing"),
    "a wrong shape": (
        lambda run: edit_weights(run, lambda t: {**t, "0.0.weight": torch.zeros(3, 3)}),
        r"0\.0\.weight.*\(3, 3\).*\(32, 3, 3, 3\)",
    ),
    "a shape that would broadcast": (
        lambda run: edit_weights(run, lambda t: {**t, "0.1.weight": torch.zeros(1)}),
        r"0\.1\.weight.*\(1,\).*\(32,\)",
    ),
    "a wrong type": (
        lambda run: edit_weights(run, lambda t: {**t, "0.0.weight": t["0.0.weight"].half()}),
        r"0\.0\.weight.*torch\.float16.*torch\.float32",
    ),
    "no json": (lambda run: (run / "encoder.json").write_text("{"), r"encoder\.json is damaged"),
    "binary json": (lambda run: (run / "encoder.json").write_bytes(b"\xff\xfe\x00"), r"encoder\.json is damaged"),
    "foreign json": (lambda run: (run / "encoder.json").write_text('{"a": 1}'), r"encoder\.json.*field .encoder."),
    "a list": (lambda run: (run / "encoder.json").write_text("[]"), r"encoder\.json.*field .encoder."),
    "no card": (lambda run: (run / "encoder.json").unlink(), r"encoder\.json is missing"),
    "future format": (lambda run: edit_card(run, format=2), r"format.*2.*1.*Update eigenview"),
    "no size": (lambda run: edit_card(run, size=None), "size is missing"),
    "true as size": (lambda run: edit_card(run, size=True), "size is True; expected a whole number"),
    "huge size": (lambda run: edit_card(run, size=10**9), "size.*1000000000.*1 to 4096"),
    "text as mean": (lambda run: edit_card(run, mean=["a", 0, 0]), r"mean\[0\] is 'a'; expected a number"),
    "two means": (lambda run: edit_card(run, mean=[0, 0]), "mean is \\[0, 0\\]; allowed: 3 numbers"),
    "text as source size": (lambda run: edit_card(run, source_size="abc"), "source_size is 'abc'.*1 to 65536"),
    "negative source size": (lambda run: edit_card(run, source_size=-1), "source_size is -1"),
    "part of a pixel": (lambda run: edit_card(run, source_size=1.5), "source_size is 1.5"),
    "zero std": (lambda run: edit_card(run, std=[0.0, 1, 1]), "std.*0.0.*above 0"),
    "unknown stem": (lambda run: edit_card(run, stem="tiny"), "stem.*tiny.*auto"),
    "unknown encoder": (lambda run: edit_card(run, encoder="conv-tine"), "conv-tine.*conv-tiny"),
    "hub as encoder": (lambda run: edit_card(run, encoder="timm:hf-hub:x/y"), "timm:hf-hub:x/y.*no such encoder"),
    "another encoder": (lambda run: edit_card(run, encoder="conv-small"), "weights of conv-small"),
    "wrong width": (lambda run: edit_card(run, width=7), r"encoder\.json.*width.*7.*128"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_and_foreign_files_are_refused_by_name(run, damage):
    harm, message = DAMAGE[damage]
    harm(run)
    with pytest.raises(UserError, match=message) as caught:
        load_encoder(run)
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    for name in ("encoder.pt", "encoder.ckpt", "encoder.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    saved_elsewhere = tmp_path / "other"
    saved(saved_elsewhere, "conv-tiny")
    (tmp_path / "encoder.json").write_bytes((saved_elsewhere / "encoder.json").read_bytes())
    for source in (tmp_path, tmp_path / "encoder.pt", tmp_path / "encoder.ckpt"):
        with pytest.raises(UserError, match=r"encoder\.(safetensors|pt|ckpt)"):
            load_encoder(source)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("source", ["nowhere", "nowhere/encoder.safetensors", "torchvision:resnet18"])
def test_a_missing_source_is_named(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"{source}.*not exist.*run directory"):
        load_encoder(source)


def test_the_home_folder_is_found_and_what_is_no_source_refused(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert eigenview.load_encoder(f"~/{run.name}").name == "conv-tiny"
    for source, name in ((None, "NoneType"), (3, "int")):
        with pytest.raises(UserError, match=f"source is a {name}; allowed: a path, a name or"):
            eigenview.load_encoder(source)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"not a finished.*run"):
        load_encoder(tmp_path)


def test_an_incomplete_card_is_not_written(tmp_path):
    encoder, _ = build_encoder("conv-tiny", size=16)
    with pytest.raises(UserError, match="width is missing"):
        save_encoder(tmp_path, encoder, {"encoder": "conv-tiny", "stem": "auto", "size": 16, "mean": MEAN, "std": STD})
    assert list(tmp_path.iterdir()) == []


def test_a_timm_network_without_weights():
    encoder = load_encoder("timm:test_vit", pretrained=False)
    assert encoder.interpolation == timm.get_pretrained_cfg("test_vit").interpolation == "bicubic"
    assert (encoder.size, encoder.width, encoder.mean) == (160, 64, (0.5, 0.5, 0.5))
    assert encoder.embed(torch.zeros(2, 3, 20, 20, dtype=torch.uint8)).shape == (2, 64)


def test_published_weights_come_from_the_cache_without_asking_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("eigenview.hub.why_unreachable", lambda: "the hub was asked")
    weights = timm.create_model("test_vit", num_classes=1000).state_dict()
    folder = tmp_path / "models--timm--test_vit.r160_in1k"
    for name, content in {
        "refs/main": b"abc",
        "snapshots/abc/model.safetensors": safetensors.torch.save(weights),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    loaded = load_encoder("timm:test_vit").network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.items())
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"timm:test_vit: .*cache, and the hub was asked.*give a run directory\.$"):
        load_encoder("timm:test_vit")


def test_unknown_timm_networks_are_refused():
    with pytest.raises(UserError, match=r"timm:test_vitt.*timm:test_vit"):
        load_encoder("timm:test_vitt")
