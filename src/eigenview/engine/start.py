"""What a run's encoder starts from: its architecture, what of the weights fits, and the images that go with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch.nn.modules.batchnorm import _BatchNorm

from eigenview.config import RunConfig, with_fields
from eigenview.config.augment import AugmentConfig
from eigenview.data.images import File
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
UNTRAINED = "conv-small"
"""The encoder of a run without weights that leaves the choice to eigenview."""


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

    def sentence(self, augment: AugmentConfig) -> str:
        """What was loaded, and whose mean and deviation are used: those of `augment`, where it has any."""
        own = [
            f"--augment.{name}" for name, value in (("mean", augment.mean), ("std", augment.std)) if value is not None
        ]
        images = self.images.sentence(self.channels)
        images += f", but for {' and '.join(own)}" if own else ""
        return "; ".join(filter(None, (self.match.sentence(), images, self.averages)))


def given_weights(config: RunConfig[Any]) -> Weights | None:
    """The weights that a configuration names. Raises: UserError as `read_weights`."""
    if config.weights is None:
        return None
    try:
        return read_weights(config.weights)
    except UserError as error:
        raise UserError(f"--weights: {error}") from error


def with_architecture(config: RunConfig[Any], weights: Weights | None) -> RunConfig[Any]:
    """`config` with the name of its encoder in place of auto, and the stem and norms that weights of ours have.

    Raises: UserError if the weights do not say which network they belong to, and --encoder does not either.
    """
    if weights is None:
        return replace(config, encoder=UNTRAINED) if config.encoder == "auto" else config
    network: dict[str, Any] = {}
    if weights.stem != "auto" and config.network.stem == "auto":
        network["stem"] = weights.stem
    if weights.norm != "batch" and config.network.encoder_norm == "batch":
        network["encoder_norm"] = weights.norm
    return with_fields(config, {"encoder": weights.architecture(config.encoder), "network": network})


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
        averages=AVERAGES[config.keeps_statistics] if has_batch_norm else "",
    )


def as_weights_saw(spec: ViewSpec, images: Preprocessing) -> ViewSpec:
    """A view with the mean, deviation and resampling that the weights were trained with."""
    return replace(spec, mean=images.mean, std=images.std, interpolation=images.interpolation)
