"""What a run's encoder starts from: its architecture, what of the weights fits, and the images that go with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from eigenview.config import RunConfig, with_fields
from eigenview.config.augment import AugmentConfig
from eigenview.config.reading import OF_RUN, Reading
from eigenview.data.images import File
from eigenview.data.pixels.ranges import kept_range
from eigenview.data.views.specs import ViewSpec
from eigenview.errors import UserError
from eigenview.models import libraries
from eigenview.models.encoders import check_patches, resolve
from eigenview.models.matching import FirstLayerMisfit, Match
from eigenview.models.weights import Preprocessing, Weights, read_weights

AVERAGES = {
    True: "batch norm keeps its averages (--batch-norm follow: they become those of these images)",
    False: "the averages of batch norm follow these images",
}


@dataclass(frozen=True, kw_only=True)
class Start:
    """Weights that fit the encoder of a run."""

    match: Match
    images: Preprocessing
    """How images are prepared for them."""
    files: tuple[File, ...]
    """The files they were read from."""
    channels: int
    """Channels of the images."""
    averages: str
    """What becomes of the running averages of batch norm; empty if the encoder has none."""
    reading: str
    """What was taken over of how the run that the weights come from made pixels; empty for nothing."""

    def sentence(self, augment: AugmentConfig) -> str:
        """What was loaded, and whose mean and deviation are used: those of `augment`, where it has any."""
        own = [
            f"--augment.{name}" for name, value in (("mean", augment.mean), ("std", augment.std)) if value is not None
        ]
        images = self.images.sentence(self.channels)
        images += f", but for {' and '.join(own)}" if own else ""
        return "; ".join(filter(None, (self.match.sentence(), images, self.reading, self.averages)))


def given_weights(config: RunConfig[Any]) -> Weights | None:
    """The weights that a configuration names. Raises: UserError as `read_weights`."""
    if config.weights is None:
        return None
    try:
        return read_weights(config.weights)
    except UserError as error:
        raise UserError(f"--weights: {error}") from error


def with_architecture(config: RunConfig[Any], weights: Weights | None) -> RunConfig[Any]:
    """`config` with the name of its encoder in place of auto, and the stem, the norms and the reading that weights of
    ours have, where it has the defaults.

    Raises: UserError if the weights do not say which network they belong to, and --encoder does not either.
    """
    config = config.decided()
    if weights is None:
        return config
    network: dict[str, Any] = {}
    if weights.stem != "auto" and config.network.stem == "auto":
        network["stem"] = weights.stem
    if weights.norm != "batch" and config.network.encoder_norm == "batch":
        network["encoder_norm"] = weights.norm
    reading = reading_from(config, weights)
    read = {name: getattr(reading, name) for name in OF_RUN}
    return with_fields(config, {"encoder": weights.architecture(config.encoder), "network": network, **read})


def reading_from(config: RunConfig[Any], weights: Weights | None) -> Reading:
    """How pixels are made: as in the run that the weights come from where `config` has the defaults, so that the
    encoder sees what it was trained on; else as `config` asks."""
    asked, known = config.reading(), None if weights is None else weights.reading
    if known is None:
        return asked
    taken = {name: getattr(known, name) for name in OF_RUN if getattr(asked, name) == getattr(Reading(), name)}
    if "range" in taken and len(known.low) in (0, 1, taken.get("channels", asked.channels)):
        taken |= {"low": known.low, "high": known.high}
    else:
        taken.pop("range", None)
    return replace(asked, **taken)


def _taken_over(config: RunConfig[Any], known: Reading | None) -> str:
    """What of a run's reading `config` has, of what is not the default, in words."""
    if known is None:
        return ""
    has_range = bool(known.low) and config.range == known.range
    parts = [kept_range(known)] if has_range else []
    names = [name for name in OF_RUN[1:] if getattr(known, name) != getattr(Reading(), name)]
    parts += [f"{name} {getattr(known, name)}" for name in names if getattr(config, name) == getattr(known, name)]
    return f"pixels are made as in that run ({', '.join(parts)})" if parts else ""


def start_of(config: RunConfig[Any], weights: Weights, size: int, channels: int = 3) -> tuple[RunConfig[Any], Start]:
    """What of the weights goes into the encoder of this run, for images of `size` px, and the configuration with the
    stem that they have values for, unless it asks for one.

    Raises: UserError as `Weights.fit`.
    """
    check_patches(config.encoder, "--image-size", size)
    network = config.network
    library, model = resolve(config.encoder)
    possible = libraries.stems(library, model, size, "auto") if network.stem == "auto" else (network.stem,)
    built: dict[str, Any] = {"size": size, "norm": network.encoder_norm, "channels": channels}
    try:
        encoder, _, match, stem = weights.fitted(config.encoder, possible, averages=config.keeps_statistics, **built)
    except FirstLayerMisfit as error:
        advice = f" --network.stem auto takes the stem of the weights, not {network.stem}."
        raise UserError(f"{error}{'' if network.stem == 'auto' else advice}") from error
    except UserError as error:
        other = weights.encoder not in (None, config.encoder)
        advice = f" They say that they belong to {weights.encoder}, which --encoder auto takes."
        raise UserError(f"{error}{advice if other else ''}") from error
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in encoder.modules())
    return with_fields(config, {"network": {"stem": stem}}), Start(
        match=match,
        images=weights.preparation(config.encoder),
        files=weights.files,
        channels=channels,
        reading=_taken_over(config, weights.reading),
        averages=AVERAGES[config.keeps_statistics] if has_batch_norm else "",
    )


def as_weights_saw(spec: ViewSpec, images: Preprocessing) -> ViewSpec:
    """A view with the mean, deviation and resampling that the weights were trained with."""
    return replace(spec, mean=images.mean, std=images.std, interpolation=images.interpolation)
