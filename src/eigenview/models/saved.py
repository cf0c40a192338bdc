"""Save and load a trained encoder: encoder.safetensors (weights) and encoder.json (the card).

The card says how to build the network, how images are prepared for it and where it comes from:
    {"format": 1, "encoder", "stem", "norm" (batch if missing), "size", "source_size", "width", "mean", "std",
     "interpolation" (bilinear if missing), "weights" (what it started from), "pixels": how they are made from files
     (config/reading.py; 8 bits and three channels if missing), "method", "run": {...}, "eigenview": version,
     "sha256": of the weights file}

Nothing read here can run code: safetensors holds numbers only, and the card can only name networks that are installed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from eigenview import runfiles
from eigenview.config.reading import Reading
from eigenview.data.opening import at_home, kind_of
from eigenview.errors import UserError, require
from eigenview.hub import from_cache_or_hub
from eigenview.models.encoders import build_encoder, features_of_zeros, resolve, vector_width
from eigenview.models.given_images import Given, as_images
from eigenview.models.libraries import nearest_filter
from eigenview.models.norms import NORMS
from eigenview.runfiles.schema import misfit

FORMAT = 1
LARGEST_SIZE = 4096  # px: limits the memory that a damaged card can request when the network is tried


class LoadedEncoder(nn.Module):
    """A trained encoder with the preprocessing of its images; in evaluation mode when loaded.

    **Shapes** - calling it takes float images (n C size size), normalised with mean and std, and gives h (n H).
    `embed` takes uint8 images (n C S S) of any side S. C is 3 unless the run had other --channels.
    """

    def __init__(self, network: nn.Module, card: dict[str, Any], loaded: str = "") -> None:
        """loaded: of weights of another program, the sentence on what of them was loaded and what was not."""
        super().__init__()
        self.network = network
        self.card = card
        self.loaded = loaded
        self.name: str = card["encoder"]
        self.stem: str = card["stem"]
        self.size: int = card["size"]
        self.source_size: int = card.get("source_size") or card["size"]
        self.width: int = card["width"]
        self.reading = Reading.from_json(card.get("pixels"))
        self.mean = tuple(float(each) for each in card["mean"])
        self.std = tuple(float(each) for each in card["std"])
        self.interpolation: Literal["bilinear", "bicubic"] = card.get("interpolation", "bilinear")
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """h (n H) of normalised images (n C size size)."""
        return self.network(images)

    @torch.no_grad()
    def embed(self, images: Given, batch_size: int = 256) -> Tensor:
        """h (n H) of uint8 images (n C S S), float32, on the device of the images, which must be the network's.

        Also of a NumPy array, a PIL image, a path, or a list of the last two (given_images.py), on the network's
        device: these are first read as `eigenview embed` reads files, by `reading` and at `source_size`.

        Resizes to `size` and normalises as in training, without augmentation; evaluation mode, no gradient. Images are
        processed `batch_size` at a time.
        """
        from eigenview.data.views.augment import prepare

        require(batch_size >= 1, "batch_size", batch_size, "1 or more")
        if not isinstance(images, Tensor):
            images = as_images(images, self.source_size, self.reading).to(next(self.parameters()).device)
        channels = len(self.mean)
        is_ours = images.ndim == 4 and images.shape[1] == channels and images.shape[2] == images.shape[3]
        require(is_ours, "images.shape", tuple(images.shape), f"(N, {channels}, S, S): square images")
        was_training = self.training
        self.eval()
        try:
            parts = [
                self(prepare(part, self.size, self.mean, self.std, interpolation=self.interpolation)).float()
                for part in images.split(batch_size)
            ]
        finally:
            self.train(was_training)
        return torch.cat(parts)


def state_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The state dict as safetensors requires it: on the CPU, contiguous, no two tensors sharing memory."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def save_encoder(directory: Path, encoder: nn.Module, card: dict[str, Any]) -> None:
    """Write encoder.safetensors and encoder.json into a run directory, each atomically.

    `card` needs encoder, stem, size, width, mean, std (see the module's docstring). Format and the checksum that ties
    the two files together are added here.
    """
    weights = safetensors.torch.save(state_tensors(encoder), metadata={"format": "pt"})
    full = {**card, "format": FORMAT, "sha256": hashlib.sha256(weights).hexdigest()}
    _check_card(full, "the encoder's card")
    runfiles.write_bytes(directory / runfiles.ENCODER, weights)
    runfiles.write_object(directory / runfiles.ENCODER_CARD, full)


def load_encoder(source: Path | str, *, pretrained: bool = True) -> LoadedEncoder:
    """The encoder of a run, or a network of timm.

    **Source** - a run directory, an encoder.safetensors or encoder.json (in the same folder), or timm:NAME:
    that network with the weights timm publishes, from timm's cache or else from the Hugging Face hub;
    with `pretrained=False` randomly initialised.

    **Raises** - UserError naming the file for anything missing, damaged, or not an encoder of eigenview.
    """
    if str(source).startswith("timm:"):
        return _load_timm(str(source), pretrained)
    if not isinstance(source, str | Path):
        raise UserError(f"source is a {type(source).__name__}; allowed: a path, a name or (ev.load_encoder) a module.")
    weights_path, card_path = _find_files(at_home(str(source)))
    card = runfiles.read_json(card_path)
    _check_card(card, str(card_path))
    weights = runfiles.file_bytes(weights_path)
    with torch.random.fork_rng(devices=[]):  # initial weights do not move the caller's random state
        try:
            network, width = build_encoder(
                card["encoder"],
                size=card["size"],
                stem=card["stem"],
                norm=card.get("norm", "batch"),
                channels=len(card["mean"]),
            )
        except UserError as error:
            raise UserError(f"{card_path} describes an encoder that cannot be built: {error}") from error
    require(width == card["width"], f"{card_path}: width", card["width"], f"{width} with {card['encoder']}")
    tensors = _parse(weights, weights_path)
    _check_tensors(tensors, network.state_dict(), weights_path, card["encoder"])
    if hashlib.sha256(weights).hexdigest() != card.get("sha256"):
        raise UserError(
            f"{weights_path} is damaged or not the file that {card_path.name} was written with: its SHA-256 differs "
            "from the one recorded there. Copy both files again from the run."
        )
    network.load_state_dict(tensors)
    return LoadedEncoder(network, card)


def _find_files(path: Path) -> tuple[Path, Path]:
    """Paths of weights and card, from a run directory or either file."""
    kind = kind_of(path)
    if kind == "folder":
        return path / runfiles.ENCODER, path / runfiles.ENCODER_CARD
    if path.suffix in (".safetensors", ".json") and kind == "file":
        return path.with_suffix(".safetensors"), path.with_suffix(".json")
    what = "is not an encoder that can be loaded" if kind != "nothing" else "does not exist"
    raise UserError(f"{path} {what}. Give a run directory, its encoder.safetensors or encoder.json, or timm:NAME.")


def _check_card(card: Any, where: str) -> None:
    """Raises UserError if this is not a valid encoder.json; called before a network is built from it."""
    if not isinstance(card, dict) or "encoder" not in card:
        raise UserError(f"{where} does not describe an encoder of eigenview (no field 'encoder').")
    require(card.get("format") == FORMAT, f"{where}: format", card.get("format"), f"{FORMAT}", "Update eigenview.")
    found = misfit(card, runfiles.CARD_KIND)
    if found is not None:
        raise UserError(f"{where} is damaged: {found}.")
    require(card["stem"] in ("auto", "small", "standard"), f"{where}: stem", card["stem"], "auto, small, standard")
    norm = card.get("norm", "batch")
    require(norm in NORMS, f"{where}: norm", norm, ", ".join(NORMS))
    require(1 <= card["size"] <= LARGEST_SIZE, f"{where}: size", card["size"], f"1 to {LARGEST_SIZE}")
    filters, given = ("bilinear", "bicubic"), card.get("interpolation", "bilinear")
    require(given in filters, f"{where}: interpolation", given, " or ".join(filters))
    try:
        channels = Reading.from_json(card.get("pixels")).channels
    except UserError as error:
        raise UserError(f"{where} is damaged: pixels: {error}") from None
    for name in ("mean", "std"):
        require(
            len(card[name]) == channels, f"{where}: {name}", card[name], f"{channels} numbers, one for each channel"
        )
    require(min(card["std"]) > 0, f"{where}: std", card["std"], "numbers above 0")


def _parse(weights: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(weights)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path} is truncated, damaged or no safetensors file: {error}.") from error


def _check_tensors(given: dict[str, Tensor], expected: dict[str, Tensor], path: Path, encoder: str) -> None:
    """Raises UserError at the first name, shape or type that differs from the network's."""
    missing, foreign = [n for n in expected if n not in given], [n for n in given if n not in expected]
    if missing or foreign:
        first = f"{missing[0]} is missing" if missing else f"{foreign[0]} is not part of it"
        raise UserError(f"{path} does not hold the weights of {encoder}: {first}.")
    for name, tensor in expected.items():
        ours, theirs = (tuple(tensor.shape), tensor.dtype), (tuple(given[name].shape), given[name].dtype)
        if ours != theirs:
            raise UserError(
                f"{path} does not hold the weights of {encoder}: {name} is {theirs[1]} {theirs[0]}, "
                f"expected {ours[1]} {ours[0]}."
            )


def _load_timm(name: str, pretrained: bool) -> LoadedEncoder:
    """A network of timm with the image size, mean and std that belong to its weights."""
    import timm
    from timm.data.config import resolve_model_data_config

    _, model = resolve(name)
    network = published(name, model) if pretrained else timm.create_model(model, pretrained=False, num_classes=0)
    images = resolve_model_data_config(network)
    size = images["input_size"][-1]
    card = {"format": FORMAT, "encoder": name, "stem": "standard", "size": size, "mean": list(images["mean"])}
    width = vector_width(features_of_zeros(network, size), name)
    card |= {"std": list(images["std"]), "interpolation": nearest_filter(images["interpolation"])}
    card |= {"width": width, "method": None, "run": {}}
    return LoadedEncoder(network, card)


def published(name: str, model: str) -> nn.Module:
    """A network of timm with its published weights: from the cache, else from the hub if that answers."""
    import timm

    def load() -> nn.Module:
        return timm.create_model(model, pretrained=True, num_classes=0)

    return from_cache_or_hub(name, "its published weights", load, "a run directory")
