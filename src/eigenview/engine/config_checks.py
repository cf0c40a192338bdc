"""Validates combinations of options, before anything is loaded or written."""

from __future__ import annotations

from typing import Any

from eigenview.config import RunConfig, method_name
from eigenview.engine.views import check_augmentation
from eigenview.errors import UserError, require
from eigenview.methods import METHODS, config_class


def check_combinations(config: RunConfig[Any]) -> None:
    """Raises UserError if the method cannot train the network, batch or views that the other options ask for."""
    name, needs, network = method_name(config.method), config.method.needs, config.network
    least, most = needs.views
    require(
        config.views >= least and (most is None or config.views <= most),
        "--views",
        config.views,
        f"{least} {'or more' if most is None else f'to {most}'} with --method {name}",
    )
    require(needs.local_views or not config.local_views, "--local-views", config.local_views, f"0 with --method {name}")
    shares = config.grad_accum_steps * (config.devices if needs.local_statistics else 1)
    require(
        config.batch_size // shares >= needs.least_samples,
        "--batch-size",
        config.batch_size,
        f"{needs.least_samples * shares} or more with --method {name}, whose statistics need "
        f"{needs.least_samples} images at once" + (f", in {shares} parts" if shares > 1 else ""),
    )
    check_augmentation(config)
    _check_accumulation(config, name)
    if not needs.reads & {"z", "p"}:
        require(
            network.projector_layers == 0,
            "network.projector_layers",
            network.projector_layers,
            f"0 with --method {name} on the representation, which leaves a projector untrained",
        )
    _check_target(config, name)
    if config.second_encoder is not None:
        require(
            config.weights is None, "--weights", config.weights, "left out with --second-encoder: they fit one of two"
        )
        require(config.train == "all", "--train", config.train, "all with --second-encoder")
    if config.second_encoder is None and network.shared_weights:
        return
    if needs.one_network is not None:
        asked = "--network.no-shared-weights" if config.second_encoder is None else "--second-encoder"
        allowed = [other for other in METHODS if config_class(other)().needs.one_network is None]
        raise UserError(
            f"{asked}: {name} needs one network for all views, because {needs.one_network}. "
            f"Methods that allow two: {', '.join(allowed)}."
        )


def _check_accumulation(config: RunConfig[Any], name: str) -> None:
    needs = config.method.needs
    if config.grad_accum_steps == 1 or needs.parts != "no" or config.grad_accum_coupled:
        return
    part = config.batch_size // config.devices // config.grad_accum_steps
    raise UserError(
        f"--grad-accum-steps {config.grad_accum_steps}: with --method {name} parts of a batch give another gradient "
        f"than the whole, because {needs.parts_why}. --grad-cache-chunk {part} gives the exact gradient of the whole "
        "batch in the memory of a part; --method unbiased-vicreg --method.hinge dual has one that does not "
        "depend on the parts; --grad-accum-coupled trains on the other gradient."
    )


def _check_target(config: RunConfig[Any], name: str) -> None:
    needs, target = config.method.needs, config.network.target
    if not needs.target:
        allowed = "auto or online" if needs.predictor else "auto"
        require(
            target == "auto" or (target == "online" and needs.predictor),
            "network.target",
            target,
            f"{allowed} with --method {name}, which is published without a target network",
        )
    elif not needs.stop_gradient:
        require(
            target == "online",
            "method.stop_gradient",
            False,
            "True with a target network, which never receives a gradient",
            "Use --network.target online.",
        )
