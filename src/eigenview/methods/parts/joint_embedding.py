"""`JointEmbedding`: encoder, projector, perhaps a predictor and a target network, and an objective of their outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from eigenview.methods.parts.method import Method, Objective
from eigenview.models.network import Network
from eigenview.models.target import TargetNetwork
from eigenview.records import Batch, Clock, Needs
from eigenview.views import Group, Loss, Views


class JointEmbedding(Method):
    """Views -> network (and target network) -> objective.

    Args:
        network: encoder, projector and learned predictor.
        objective: the loss of their outputs.
        target: the target network, or None: then the online embeddings, held constant by the objective, are targets.
        momentum: fraction of the target network kept at a step.
        predictor_group: learning-rate factor and weight decay of the learned predictor (and of the objective's own
            parameters, such as a closed-form predictor that is trained between two computations).
        encoder_groups: the trainable parameters of an encoder in groups of their own; None: part of the network's.
    """

    def __init__(
        self,
        needs: Needs,
        network: Network,
        objective: Objective,
        *,
        target: TargetNetwork | None = None,
        momentum: Callable[[Clock], float] = lambda clock: 0.99,
        predictor_group: tuple[float, float | None] = (1.0, None),
        encoder_groups: Callable[[nn.Module], list[Group]] | None = None,
    ) -> None:
        super().__init__(needs)
        self.network = network
        self.target = target
        self.objective = objective
        self.momentum = momentum
        self.predictor_group = predictor_group
        self.encoder_groups = encoder_groups

    def loss(self, batch: Batch, clock: Clock) -> Loss:
        return self.objective(self.embed(batch), clock)

    def embed(self, batch: Batch) -> Views:
        """What the networks give for the own rows of a batch."""
        online = self.needs.online or tuple(range(len(batch.views)))
        targets = self.needs.targets or tuple(range(batch.whole))
        h, z, p = self.network([batch.views[v] for v in online], online, together=self.needs.together)
        z_target = None if self.target is None else self.target([batch.views[v] for v in targets])
        if z_target is None and self.needs.target:
            # without a target network the online one is its own: the objective holds it constant
            is_prefix = targets == online[: len(targets)]
            z_target = z[: len(targets)] if is_prefix else torch.stack([z[online.index(v)] for v in targets])
        return Views(
            h=h, z=z, p=p, z_target=z_target, whole=batch.whole, online=self.needs.online, targets=self.needs.targets,
            index=batch.index,
        )  # fmt: skip

    @torch.no_grad()
    def after_step(self, carry: Mapping[str, Tensor], clock: Clock) -> None:
        self.objective.update(carry, clock)
        if self.target is not None:
            self.target.update(self.network.encoder, self.network.projector, self.momentum(clock))

    def parameter_groups(self) -> Iterator[Group]:
        factor, decay = self.predictor_group
        predictor = [] if self.network.predictor is None else list(self.network.predictor.parameters())
        encoders = [] if self.encoder_groups is None else [self.network.encoder]
        encoders += [self.network.second.encoder] if encoders and self.network.second is not None else []
        apart = {id(p) for p in predictor} | {id(p) for encoder in encoders for p in encoder.parameters()}
        yield Group("network", [p for p in self.network.parameters() if p.requires_grad and id(p) not in apart])
        for encoder in encoders:
            assert self.encoder_groups is not None
            yield from self.encoder_groups(encoder)
        if predictor:
            yield Group("predictor", [p for p in predictor if p.requires_grad], factor, decay)
        for group in self.objective.parameter_groups():
            yield group._replace(
                lr_factor=factor * group.lr_factor, decay=decay if group.decay is None else group.decay
            )

    @property
    def widths(self) -> dict[str, int]:
        return {"h": self.network.representation_width, "z": self.network.embedding_width}

    def warnings(self, images: int) -> list[str]:
        note = self.needs.weight_note(self.network.embedding_width)
        return [*([] if note is None else [note]), *super().warnings(images)]

    def log_values(self, clock: Clock) -> dict[str, float]:
        return {} if self.target is None else {"target_momentum": self.momentum(clock)}

    @torch.no_grad()
    def watch(self, batch: Batch) -> dict[str, Tensor]:
        views = batch.views[: batch.whole]
        pairs = [self.network.embed(view, number) for number, view in enumerate(views)]
        z = torch.stack([pair[1] for pair in pairs]).float()
        if self.network.second is not None:
            pairs = [self.network.embed(view) for view in views]  # h is the kept encoder's, for every view
        seen = {"h": torch.stack([pair[0] for pair in pairs]).float(), "z": z}
        p = self.objective.predict(z) if self.network.predictor is None else self.network.predict(z)
        if p is not None:
            seen["p"] = p
            if self.target is not None:
                seen["z_target"] = self.target(views).float()
        return seen

    def encoders(self) -> dict[str, nn.Module]:
        return {"encoder": self.network.encoder}
