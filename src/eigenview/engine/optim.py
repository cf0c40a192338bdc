"""Optimisers: AdamW and SGD from torch (fused where it can be), and LARS in its two published variants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from eigenview.config import OptimConfig
from eigenview.errors import UserError, require
from eigenview.methods.parts.method import Method


class LARS(Optimizer):
    """SGD with momentum whose step on each weight matrix is proportional to that matrix's own norm.

    Definition, for a parameter w with gradient g, weight decay wd and momentum m:
        official  g <- g + wd w;  q = eta |w| / |g|  (1 where either norm is 0)
        solo      q = eta |w| / (|g| + wd |w| + 1e-8), with `clip` at most 1 once divided by the learning rate;
                  g <- g + wd w  (where either norm is 0, q = 1 and there is no decay)
        both      v <- m v + q g;  w <- w - lr v
    Parameters of one axis or none (biases, norms) take q = 1 and no decay in both; so do groups with `scaled` False.

    The variants differ in where the decay enters the ratio, and in the clipping, which keeps the first steps of a
    warm-up from being larger than plain SGD's.

    Reference: You, Gitman, Ginsburg 2017, arXiv 1708.03888; official: facebookresearch/vicreg, main_vicreg.py, commit
    4e12602; solo: vturrisi/solo-learn, commit 9187ea3.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        variant: Literal["official", "solo"] = "official",
        clip: bool = False,
    ) -> None:
        require(lr >= 0, "lr", lr, "0 or more")
        require(variant in ("official", "solo"), "variant", variant, "official, solo")
        require(not clip or variant == "solo", "clip", clip, "only with variant='solo'")
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        defaults |= {"trust_coefficient": trust_coefficient, "variant": variant, "clip": clip, "scaled": True}
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Groups in checkpoints of versions before December 2026 have no `scaled`."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.setdefault("scaled", True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step on every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            scaled = _official if group["variant"] == "official" else _solo
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                is_plain = parameter.ndim <= 1 or not group["scaled"]
                direction = parameter.grad if is_plain else scaled(parameter, parameter.grad, group)
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(direction)
                parameter.add_(velocity, alpha=-group["lr"])
        return loss


# Norms stay tensors and choices are torch.where: a comparison in Python would wait for the device at every parameter.
def _official(w: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
    g = g.add(w, alpha=group["weight_decay"])
    w_norm, g_norm = w.norm(), g.norm()
    ratio = group["trust_coefficient"] * w_norm / g_norm
    return g * torch.where((w_norm > 0) & (g_norm > 0), ratio, 1.0)


def _solo(w: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
    w_norm, g_norm = w.norm(), g.norm()
    ratio = group["trust_coefficient"] * w_norm / (g_norm + group["weight_decay"] * w_norm + 1e-8)
    if group["clip"]:
        ratio = (ratio / group["lr"]).clamp_max(1.0) if group["lr"] > 0 else torch.ones_like(ratio)
    return torch.where((w_norm > 0) & (g_norm > 0), g.add(w, alpha=group["weight_decay"]) * ratio, g)


def peak_learning_rate(config: OptimConfig, batch_size: int) -> float:
    """`lr_per_256` scaled to the global batch: by batch/256, its square root, or not at all."""
    ratio = batch_size / 256
    return config.lr_per_256 * {"linear": ratio, "sqrt": ratio**0.5, "none": 1.0}[config.batch_scaling]


def undecayed(method: Method) -> set[int]:
    """`id` of each parameter without weight decay and LARS's trust ratio.

    Decayed are weights of layers: two axes or more, with a name that ends in "weight", as torch's layers have it (also
    in_proj_weight of attention), or the matrix "W" of a predictor. That leaves out biases and norms, class tokens and
    position embeddings, tables of relative positions, layer scales and temperatures, whatever a library calls them; and
    of the rest what a network of timm names in its own `no_weight_decay`.
    """
    plain = {id(p) for name, p in method.named_parameters() if p.ndim <= 1 or not name.endswith(("weight", "W"))}
    for module in method.modules():
        listed = getattr(module, "no_weight_decay", None)  # of timm's networks
        if callable(listed):
            patterns = list(cast(Iterable[str], listed()))
            plain |= {
                id(p) for name, p in module.named_parameters() if any(fnmatchcase(name, each) for each in patterns)
            }
    return plain


def build_optimizer(config: OptimConfig, method: Method, *, batch_size: int) -> Optimizer:
    """The optimiser of all trainable parameters of a method, at the peak learning rate for the global `batch_size`.

    Every group of `method.parameter_groups()` becomes two: weight matrices, with weight decay, and what `undecayed`
    lists, without (and without LARS's trust ratio). A group's key "factor" is its learning rate as a multiple of the
    run's, "frozen_epochs" how long it does not move; the step sets each group's `lr`.

    Raises: UserError if nothing is trainable; ValueError if the groups do not hold every trainable parameter once.
    """
    trainable = {id(p): p for p in method.parameters() if p.requires_grad}
    if not trainable:
        raise UserError("no parameter of the network is trainable; unfreeze some before training.")
    lr = peak_learning_rate(config, batch_size)
    groups: list[dict[str, Any]] = []
    plain = undecayed(method)
    for group in method.parameter_groups():
        decay = config.weight_decay if group.decay is None else group.decay
        for is_matrix in (True, False):
            groups.append(
                {
                    "params": [p for p in group.params if p.requires_grad and (id(p) not in plain) is is_matrix],
                    "weight_decay": decay if is_matrix else 0.0,
                    "scaled": is_matrix,
                    "factor": group.lr_factor,
                    "frozen_epochs": group.frozen_epochs,
                    "lr": lr * group.lr_factor,
                }
            )
    groups = [group for group in groups if group["params"]]
    named = [id(p) for group in groups for p in group["params"]]
    if len(named) != len(set(named)) or set(named) != set(trainable):
        missing = [name for name, p in method.named_parameters() if p.requires_grad and id(p) not in named]
        raise ValueError(f"parameter_groups must name every trainable parameter once; missing or repeated: {missing}")
    # one pass over all parameters instead of one kernel each; torch has it for these devices
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in trainable.values())
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=fused)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, fused=fused)
    clip = config.name == "lars-clip"
    return LARS(
        groups,
        lr=lr,
        momentum=config.momentum,
        trust_coefficient=config.trust_coefficient,
        variant="solo" if clip else "official",
        clip=clip,
    )
