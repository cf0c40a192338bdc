"""An encoder from anywhere: a finished run, or weights of another program in a network of their architecture."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from eigenview.config.reading import Reading
from eigenview.errors import require
from eigenview.models import saved
from eigenview.models.encoders import check_patches, resolve
from eigenview.models.libraries import stems
from eigenview.models.saved import FORMAT, LARGEST_SIZE, LoadedEncoder
from eigenview.models.weights import is_weights, read_weights


def load_encoder(
    source: Path | str | nn.Module, *, encoder: str = "auto", image_size: int | None = None
) -> LoadedEncoder:
    """The encoder of a run, or a network with weights of another program, in evaluation mode.

    source: a run directory or its encoder.safetensors, or weights as `eigenview pretrain --weights` takes them: a file,
    a folder of timm, timm:NAME, hf:OWNER/NAME, a module. encoder: the architecture of weights that do not name theirs.
    image_size: side in pixels to which images are brought; default: that of the run, or that of the weights.

    Of weights, `loaded` of the result says what of them was loaded. A ResNet has the stem that they have.

    Raises: UserError for anything missing, damaged or not an encoder, and for weights that do not fit the architecture.
    """
    if not isinstance(source, nn.Module) and not is_weights(str(source)):
        loaded = saved.load_encoder(source)
        require(
            encoder in ("auto", loaded.name),
            "--encoder",
            encoder,
            f"{loaded.name}, which is what {source} holds, or auto",
        )
        require(
            image_size in (None, loaded.size),
            "--image-size",
            image_size,
            f"{loaded.size}, the size that {source} was trained at",
        )
        return loaded
    weights = read_weights(source)
    name = weights.architecture(encoder)
    images = weights.preparation(name)
    size = (images.size or 224) if image_size is None else image_size
    require(1 <= size <= LARGEST_SIZE, "--image-size", size, f"1 to {LARGEST_SIZE}")
    check_patches(name, "--image-size", size)
    library, model = resolve(name)
    reading = Reading(channels=len(images.mean))
    network, width, found, stem = weights.fitted(
        name, stems(library, model, size, "standard"), size=size, channels=reading.channels
    )
    network.load_state_dict(found.tensors, strict=False)
    card = {"format": FORMAT, "encoder": name, "stem": stem, "size": size, "width": width, "method": None, "run": {}}
    card |= {"mean": list(images.mean), "std": list(images.std), "interpolation": images.interpolation}
    card |= {"pixels": reading.as_json(), "weights": weights.origin}
    return LoadedEncoder(network, card, f"{found.sentence()}; {images.sentence(reading.channels)}")
