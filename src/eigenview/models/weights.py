"""Weights to start from: a file, a folder of timm, a run of ours, timm:NAME, hf:OWNER/NAME, or a module.

`read_weights` finds them and what is known of them; `fit` says what of them goes into an encoder. Nothing in a file is
executed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from eigenview import runfiles
from eigenview.config.reading import Reading
from eigenview.data.images import File
from eigenview.data.opening import at_home, kind_of
from eigenview.data.views.specs import IMAGENET_MEAN, IMAGENET_STD
from eigenview.errors import UserError
from eigenview.hub import TIMM_CONFIG, TIMM_FILES, from_cache_or_hub
from eigenview.models import libraries
from eigenview.models.encoders import build_encoder, resolve
from eigenview.models.libraries import Stem
from eigenview.models.matching import FirstLayerMisfit, Match, Tensors, match, tables_of
from eigenview.models.norms import Norm
from eigenview.models.saved import load_encoder, published, state_tensors
from eigenview.models.weights_files import SUFFIXES, images_in, named_by, read_tensors, read_timm_config

HUB = "hf:"
ALLOWED = (
    f"Give a file ({', '.join(SUFFIXES)}), a folder with {TIMM_CONFIG} and {TIMM_FILES[0]}, a run directory, "
    "timm:NAME, or hf:OWNER/NAME."
)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How the images were prepared that the weights were trained on."""

    mean: tuple[float, ...]
    """Of each channel, values between 0 and 1."""
    std: tuple[float, ...]
    size: int | None
    """Side in pixels; None: not known."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    origin: str = "of these weights"
    """Whose values they are, for the line that says what is used."""

    def sentence(self, channels: int) -> str:
        """Whose mean and deviation are used for images of so many channels."""
        return f"mean and deviation {self.origin if self.fits(channels) else 'of these images'} are used"

    def fits(self, channels: int) -> bool:
        """Whether each of so many channels has a mean here."""
        return len(self.mean) == channels


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors with what is known of them."""

    origin: str
    """As the user named them."""
    tables: list[Tensors]
    encoder: str | None = None
    """Name of their architecture, if they come with one."""
    preprocessing: Preprocessing | None = None
    """None: that of the architecture (`preparation`)."""
    stem: Stem = "auto"
    """Of a ResNet from a run of ours, as it was built there."""
    norm: Norm = "batch"
    reading: Reading | None = None
    """How a run of ours made pixels from files; None: not known."""
    files: tuple[File, ...] = ()
    """The files that were read, by which a resumed run notices other weights."""

    def architecture(self, asked: str) -> str:
        """The encoder that a run with these weights has, if its configuration asks for `asked`.

        Raises: UserError if neither names one.
        """
        if asked != "auto":
            return asked
        if self.encoder is None:
            raise UserError(
                f"{self.origin} does not say which network it belongs to. Name it: --encoder timm:NAME, "
                "torchvision:NAME, or one of eigenview's own (eigenview list encoders)."
            )
        return self.encoder

    def preparation(self, encoder: str) -> Preprocessing:
        """How images are prepared for these weights in an encoder of this name."""
        return self.preprocessing or preprocessing_of(encoder)

    def fit(self, network: nn.Module, *, averages: bool = True) -> Match:
        """What of them goes into a network, which normalises by their averages unless that is False.

        Raises: UserError if too little does.
        """
        return match(self.tables, network, where=self.origin, averages=averages)

    def fitted(
        self, encoder: str, stems: Sequence[Stem], *, averages: bool = True, **built: Any
    ) -> tuple[nn.Module, int, Match, Stem]:
        """A new encoder of this name, its width, what of them goes into it, and its stem: the first one of `stems`
        whose values they have. built: other arguments of `build_encoder`.

        Raises: UserError as `fit`, where all stems fail for the first of them, and as `build_encoder`.
        """
        misfit: FirstLayerMisfit | None = None
        for stem in stems:
            with torch.random.fork_rng(devices=[]):
                network, width = build_encoder(encoder, stem=stem, **built)
            try:
                return network, width, self.fit(network, averages=averages), stem
            except FirstLayerMisfit as error:
                misfit = misfit or error
        assert misfit is not None
        raise misfit


def preprocessing_of(encoder: str) -> Preprocessing:
    """What the library says of the images of an architecture's published weights; ImageNet's mean and deviation where
    it says nothing."""
    library, model = resolve(encoder)
    if library == "timm":
        import timm

        known = timm.get_pretrained_cfg(model)
        if known is not None:
            return from_timm(known.to_dict(), f"that timm has for {model}")
    where = "that torchvision has for its networks" if library == "torchvision" else "of ImageNet"
    size = libraries.designed_size(library, model) if library else None
    return Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD, size=size, origin=where)


def from_timm(given: dict[str, Any], origin: str) -> Preprocessing:
    """timm's description of the images."""
    return Preprocessing(
        mean=tuple(given["mean"]),
        std=tuple(given["std"]),
        size=given["input_size"][-1],
        interpolation=libraries.nearest_filter(given.get("interpolation", "bilinear")),
        origin=origin,
    )


def read_weights(origin: str | Path | nn.Module) -> Weights:
    """The weights that a user names: see the top of this file. `~` is the home directory.

    Raises: UserError for a missing, truncated or foreign file; for one that holds anything but tensors and plain values
    (a pickle that names a function is refused before that is imported); where the hub is needed and does not answer.
    """
    if isinstance(origin, nn.Module):
        return _of_module(origin)
    text = str(origin)
    if text.startswith("timm:"):
        return _of_timm(text)
    if text.startswith(HUB):
        return dataclasses.replace(_of_timm_folder(_from_hub(text), text), files=())
    path = at_home(text)
    kind = kind_of(path)
    if (kind == "folder" and (path / runfiles.ENCODER_CARD).exists()) or _is_ours(path):
        return _of_run(path, text)
    if kind == "folder" and (path / TIMM_CONFIG).exists() and _timm_tensors(path) is not None:
        return _of_timm_folder(path, text)
    if kind == "file" and path.suffix.lower() in SUFFIXES:
        tables = tables_of(read_tensors(path))
        return Weights(origin=text, tables=tables, encoder=named_by(path), files=_files(path))
    what = "does not exist" if kind == "nothing" else "holds no weights"
    raise UserError(f"{text} {what}. {ALLOWED}")


def is_weights(origin: str) -> bool:
    """Whether this names weights of another program rather than a run of ours or an encoder of one."""
    path = at_home(origin)
    if origin.startswith((HUB, "timm:")):
        return True
    if kind_of(path) == "folder":
        return not (path / runfiles.ENCODER_CARD).exists() and (path / TIMM_CONFIG).exists()
    return path.suffix.lower() in SUFFIXES and not _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether this is the weights file of an encoder of ours: its card lies beside it."""
    is_file = path.suffix.lower() == ".safetensors" and kind_of(path) == "file"
    return is_file and path.with_suffix(".json").exists()


def _files(*paths: Path) -> tuple[File, ...]:
    found = [(path, path.stat()) for path in paths]
    return tuple(File(path.name, stat.st_size, stat.st_mtime_ns) for path, stat in found)


def _timm_tensors(folder: Path) -> Path | None:
    return next((folder / name for name in TIMM_FILES if (folder / name).exists()), None)


def _of_timm_folder(folder: Path, origin: str) -> Weights:
    """The folder that timm saves and uploads: config.json with architecture and preprocessing, and the tensors."""
    config, tensors = folder / TIMM_CONFIG, _timm_tensors(folder)
    assert tensors is not None
    name, images = read_timm_config(config)
    return Weights(
        origin=origin,
        tables=tables_of(read_tensors(tensors)),
        encoder=name,
        preprocessing=None if images is None else from_timm(images, "of these weights"),
        files=_files(config, tensors),
    )


def _of_run(path: Path, origin: str) -> Weights:
    """A finished run of ours, with the stem and the norms that its encoder was built with."""
    encoder = load_encoder(path)
    card = encoder.card
    weights = path / runfiles.ENCODER if kind_of(path) == "folder" else path
    stem = card["stem"]
    if stem == "auto":
        library, model = resolve(encoder.name)
        is_small = library is not None and libraries.has_small_stem(library, model, encoder.size, stem)
        stem = "small" if is_small else "standard"
    return Weights(
        origin=origin,
        tables=[dict(encoder.network.state_dict())],
        encoder=encoder.name,
        preprocessing=Preprocessing(
            mean=encoder.mean, std=encoder.std, size=encoder.size, interpolation=encoder.interpolation
        ),
        stem=stem,
        norm=card.get("norm", "batch"),
        reading=encoder.reading,
        files=_files(weights),
    )


def _of_timm(name: str) -> Weights:
    """A network with the weights that timm publishes: from its cache, else from the hub."""
    from timm.data.config import resolve_model_data_config

    _, model = resolve(name)
    network = published(name, model)
    images = resolve_model_data_config(network)
    given = from_timm(images, "of these weights")
    return Weights(origin=name, tables=[dict(network.state_dict())], encoder=name, preprocessing=given)


def _of_module(network: nn.Module) -> Weights:
    """A ready module. The networks of timm carry their architecture and preprocessing with them.

    Raises: UserError if it has parameters without values, or a preprocessing that cannot be.
    """
    name = f"a {type(network).__name__}"
    tensors = dict(network.state_dict())
    empty = next((each for each, value in tensors.items() if is_lazy(value) or value.is_meta), None)
    if empty is not None:
        raise UserError(
            f"{name} has no values yet ({empty} is lazy, or on the device meta). Give a module with values, or a file."
        )
    known: Any = getattr(network, "pretrained_cfg", None)  # of timm's networks
    architecture = known.get("architecture") if isinstance(known, dict) else None
    if not isinstance(architecture, str) or not libraries.is_timm_name(architecture):
        return Weights(origin=name, tables=[tensors])
    images = images_in(known, f"{name}: pretrained_cfg")
    return Weights(
        origin=name,
        tables=[tensors],
        encoder=f"timm:{architecture}",
        preprocessing=None if images is None else from_timm(images, "of these weights"),
    )


def keep(network: nn.Module, place: Path) -> Path:
    """Write a ready module into a folder of `place` named after its content, as timm would; returns the folder or file.

    A run that starts from it can then be resumed, and its configuration names where it started. Files that are there
    already stay as they are, with their times, by which runs that started from them know them.
    """
    given = _of_module(network)
    content = safetensors.torch.save(state_tensors(network), metadata={"format": "pt"})
    files = {"weights.safetensors": content}
    if given.encoder is not None:
        files = {TIMM_FILES[0]: content, TIMM_CONFIG: _timm_config(given.encoder, given.preprocessing)}
    digest = hashlib.sha256()
    for each in files.values():
        digest.update(each)
    folder = place / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for name, each in files.items():
        path = folder / name
        if kind_of(path) != "file" or runfiles.file_bytes(path) != each:
            runfiles.write_bytes(path, each)
    return folder if TIMM_CONFIG in files else folder / next(iter(files))


def _timm_config(encoder: str, images: Preprocessing | None) -> bytes:
    """config.json of a folder of timm."""
    described: dict[str, Any] = {"architecture": encoder.removeprefix("timm:")}
    if images is not None:
        described["pretrained_cfg"] = {
            "mean": images.mean,
            "std": images.std,
            "interpolation": images.interpolation,
            "input_size": [len(images.mean), images.size, images.size],
        }
    return json.dumps(described, indent=2).encode()


def _from_hub(name: str) -> Path:
    """The folder with the files of hf:OWNER/NAME: from the local cache, else from the hub if that answers."""
    repository = name.removeprefix(HUB)
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise UserError(f"{name}: write hf:OWNER/NAME, such as hf:timm/resnet18.a1_in1k.")
    return from_cache_or_hub(name, "its files", lambda: _download(repository), "a file")


def _download(repository: str) -> Path:
    """config.json and the tensors, as timm uploads them."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    config = Path(hf_hub_download(repository, TIMM_CONFIG))
    commit = config.parent.name  # of both files, even if the repository changes in between
    fetch: Callable[[str], str] = lambda file: hf_hub_download(repository, file, revision=commit)  # noqa: E731
    try:
        fetch(TIMM_FILES[0])
    except EntryNotFoundError:
        fetch(TIMM_FILES[1])
    return config.parent
