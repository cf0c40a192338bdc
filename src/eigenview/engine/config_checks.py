"""Options that do not go together: refused before anything is loaded or written, or noted before the first step."""

from __future__ import annotations

from typing import Any

from torch import nn

from eigenview.config import RunConfig
from eigenview.errors import UserError, require
from eigenview.methods import OBJECTIVES, objective_class

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
COUPLED_BELOW = 64
"""Images in a pass of batch norm with which the unbiased form still trained well (experiment batch_size, tiny): k-NN 41
at 64 and 43 without batch norm, 31 and 42 at 16, where it ended in a dimensional collapse."""


def refuse_contradictions(config: RunConfig[Any]) -> None:
    """Raises UserError where the network asked for is not one that the method can train."""
    cls, network = objective_class(config.method), config.network
    reads = cls.reads_of(config.objective)
    is_local = getattr(config.objective, "statistics", "global") == "local"
    least = cls.least_samples_of(config.objective)
    shares = config.accumulate * (config.devices if is_local else 1)
    require(
        config.batch_size // shares >= least,
        "--batch-size",
        config.batch_size,
        f"{least * shares} or more with --method {config.method}, whose statistics need "
        f"{least} images at once" + (f", in {shares} parts" if shares > 1 else ""),
    )
    coupled = cls.coupled_by(config.objective)
    if config.accumulate > 1 and coupled is not None and not config.accumulate_coupled:
        part = config.batch_size // config.devices // config.accumulate
        raise UserError(
            f"--accumulate {config.accumulate}: with --method {config.method} parts of a batch give another gradient "
            f"than the whole, because {coupled}. --micro-batch {part} gives the exact gradient of the whole "
            "batch in the memory of a part; --method unbiased-vicreg --objective.hinge dual has one that does not "
            "depend on the parts; --accumulate-coupled trains on the other gradient."
        )
    if not reads & {"z", "p"}:
        require(
            network.projector_layers == 0,
            "network.projector_layers",
            network.projector_layers,
            f"0 with --method {config.method} on the representation, which leaves a projector untrained",
        )
    if "z_target" not in reads:
        allowed = "auto or online" if "p" in reads else "auto"
        require(
            network.target == "auto" or (network.target == "online" and "p" in reads),
            "network.target",
            network.target,
            f"{allowed} with --method {config.method}, which is published without a target network",
        )
    elif not getattr(config.objective, "stop_gradient", True):
        require(
            network.target == "online",
            "objective.stop_gradient",
            False,
            "True with a target network, which never receives a gradient",
            "Use --network.target online.",
        )
    if config.second_encoder is None and network.branches == "shared":
        return
    if cls.one_network is not None:
        asked = "--network.branches separate" if config.second_encoder is None else "--second-encoder"
        raise UserError(
            f"{asked}: {config.method} needs one network for all views, because {cls.one_network}. "
            f"Methods that allow two: {', '.join(m for m in OBJECTIVES if objective_class(m).one_network is None)}."
        )


def coupling_note(config: RunConfig[Any], network: nn.Module) -> str | None:
    """What to say where batch norm takes away what the unbiased form is for: rows that do not touch before the loss."""
    images = min(config.batch_size // config.devices // config.accumulate, config.micro_batch or config.batch_size)
    has_batch_norm = any(isinstance(module, BATCH_NORMS) for module in network.modules())
    if config.method != "unbiased-vicreg" or images >= COUPLED_BELOW or not has_batch_norm:
        return None
    return (
        f"batch norm couples the {images} images of a pass, and the unbiased form is then biased and may collapse "
        "(docs/unbiased.md): --network.encoder-norm group --network.head-norm layer"
    )
