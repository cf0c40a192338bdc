"""`Parts`: the networks that a run provides, from which a method's config builds the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from eigenview.config import NetworkConfig, RunConfig
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Method, Objective
from eigenview.models.layers import EncoderTraining, encoder_groups, set_trainable
from eigenview.models.matching import Tensors
from eigenview.models.network import Network, build_network, seeded
from eigenview.models.norms import keep_statistics
from eigenview.models.target import TargetNetwork, target_momentum
from eigenview.records import Clock, Needs


@dataclass(frozen=True)
class Widths:
    """What an objective may need to know of the network."""

    h: int
    """H, the encoder's output."""
    z: int
    """D, the projector's output."""
    views: int
    """V, whole views and local crops together."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The networks of one run, built on demand from its configuration.

    Initial weights of the networks are a function of `seed` and of the order in which they are built; building them
    leaves torch's generator as it was.
    """

    encoder: str
    second_encoder: str | None = None
    """Encoder of every other view, if the views have two."""
    size: int
    """Side of the whole views in pixels."""
    local_size: int | None = None
    """Side of the local crops."""
    channels: int = 3
    """Channels of the images."""
    views: int = 2
    """V, local crops included."""
    network: NetworkConfig = NetworkConfig()
    predictor_group: tuple[float, float | None] = (1.0, None)
    """Learning-rate factor and weight decay of a learned predictor."""
    training: EncoderTraining = EncoderTraining()
    """What of the encoder is trained, and how fast."""
    start: Tensors | None = None
    """Values that the encoder starts from, by its names; None: random ones."""
    chunk: int | None = None
    """Images that the encoder takes at once (models/grad_cache.py); None: all."""
    seed: int = 0

    def joint_embedding(self, needs: Needs, objective: Callable[[Widths], Objective]) -> JointEmbedding:
        """Network and target network as `needs` asks, and the objective for their widths."""
        network = self.build_network(needs)
        target = None
        if needs.target and self.network.target != "online":
            target = TargetNetwork(network.encoder, network.projector)
            target.chunk = self.chunk
        widths = Widths(network.representation_width, network.embedding_width, self.views)
        return JointEmbedding(
            needs,
            network,
            objective(widths),
            target=target,
            momentum=partial(momentum_at, self.network),
            predictor_group=self.predictor_group,
            encoder_groups=None if self.training.is_plain else partial(encoder_groups, training=self.training),
        )

    def build_network(self, needs: Needs) -> Network:
        """Encoder, projector and, if needed, predictor."""
        with seeded(self.seed):
            network = build_network(
                self.encoder,
                self.size,
                self.network,
                needs,
                second_encoder=self.second_encoder,
                local_size=self.local_size,
                channels=self.channels,
            )
        branches = [network.encoder]
        if network.second is not None and self.second_encoder is None:
            branches.append(network.second.encoder)
        for encoder in branches:
            if self.start is not None:
                encoder.load_state_dict(self.start, strict=False)
            set_trainable(encoder, self.training.train)
            if self.training.keeps_statistics:
                keep_statistics(encoder)
        network.chunk = self.chunk
        return network


def momentum_at(config: NetworkConfig, clock: Clock) -> float:
    """Fraction of the target network kept at this step (tau)."""
    return target_momentum(
        clock.step, clock.steps, config.target_momentum, config.target_momentum_end, config.target_schedule
    )


def parts_of(
    config: RunConfig[Any], size: int, local_size: int | None, channels: int = 3, start: Tensors | None = None
) -> Parts:
    """The parts that a run's configuration describes, for images of this side and number of channels.

    start: values that the encoder starts from.
    """
    config = config.decided()
    return Parts(
        encoder=config.encoder,
        second_encoder=config.second_encoder,
        size=size,
        local_size=local_size,
        channels=channels,
        views=config.views + config.local_views,
        network=config.network,
        predictor_group=(config.optim.predictor_lr_factor, config.optim.predictor_weight_decay),
        training=EncoderTraining(
            train=config.train,
            lr_factor=config.encoder_lr_factor,
            layer_decay=config.optim.layer_decay,
            frozen_epochs=config.freeze_epochs,
            keeps_statistics=config.keeps_statistics,
        ),
        start=start,
        chunk=config.grad_cache_chunk,
        seed=config.seed,
    )


def build_method(config: RunConfig[Any], parts: Parts) -> Method:
    """The method of a run. What it draws itself (a random predictor, say) is a function of the run's seed."""
    with seeded(config.seed):
        return config.method.build(parts)
