"""Checks of the golden families of optimisers, schedules and measures: a function is named after its family."""

from __future__ import annotations

import torch
from torch import Tensor

from eigenview.engine.optim import LARS
from eigenview.engine.schedules import learning_rate
from eigenview.functional.neighbours import knn_vote
from eigenview.functional.similarity import correlation, unit_standard_deviation
from eigenview.functional.spectrum import covariance_eigenvalues, power_law, power_law_r2, rankme
from eigenview.models.target import target_momentum
from tests.golden_file import Golden


def lars(g: Golden, unit: float = 1.0, **options: object) -> None:
    """In `unit`s of ours: parameters and gradients times one factor give steps times it, but for the eps of solo's."""
    weight, bias = (torch.nn.Parameter(unit * g[name]) for name in ("W0", "b0"))
    numbers = {name: g.number(name) for name in ("lr", "weight_decay", "momentum")}
    optimizer = LARS([weight, bias], trust_coefficient=g.number("eta"), **numbers, **options)  # type: ignore[arg-type]
    path: list[tuple[Tensor, Tensor]] = []
    for weight.grad, bias.grad in zip(unit * g["gradW"], unit * g["gradb"], strict=True):
        optimizer.step()
        path.append((weight.detach().clone(), bias.detach().clone()))
    for name, ours in zip("Wb", zip(*path, strict=True), strict=True):
        g.expect(name, torch.stack(ours) / unit)


def lars_vicreg(g: Golden) -> None:
    lars(g, variant="official")


def lars_solo(g: Golden) -> None:
    eps = 1e-8  # ours is fixed at the published value, the file's is that many units
    lars(g, unit=eps / g.number("eps"), variant="solo", clip=bool(g.number("clip_lr")))


def lr_schedule(g: Golden) -> None:
    per_epoch = int(g.number("steps_per_epoch"))
    steps, warmup = int(g.number("epochs")) * per_epoch, int(g.number("warmup_epochs")) * per_epoch
    scale = g.number("batch_size") / 256
    bases = {"lr_vicreg": "base_lr", "lr_barlow_weights": "base_lr", "lr_barlow_biases": "base_lr_biases"}
    for key, base in bases.items():
        peak = g.number(base) * scale
        ours = [learning_rate(k, steps, warmup, peak=peak, final_fraction=0.001) for k in range(steps)]
        g.expect(key, torch.tensor(ours, dtype=torch.float64))


def ema_schedule(g: Golden) -> None:
    steps, start, end = int(g.number("max_steps")), g.number("base_tau"), g.number("final_tau")
    ours = [target_momentum(k, steps, start, end) for k in range(len(g["tau"]))]
    g.expect("tau", torch.tensor(ours, dtype=torch.float64))


def alphareq(g: Golden) -> None:
    tolerance = 1e-6  # the reference keeps its weights in float32
    if "spectrum" in g:
        law = power_law(g["spectrum"])
        g.expect("alpha", law.alpha, tolerance)
        g.expect("R2", power_law_r2(g["spectrum"], law), tolerance)
        return
    spectrum = g["eigenspectrum_ratio"]
    if "x" in g:
        ours = covariance_eigenvalues(g["x"].double())
        g.expect("eigenspectrum_ratio", ours / ours.sum(), tolerance)
    for m in g.matching(r"alpha_lo(\d+)_hi(\d+)"):
        low, high = int(m[1]), int(m[2])  # zero-based, the end excluded
        law = power_law(spectrum, first=low + 1, last=high)
        g.expect(m[0], law.alpha, tolerance)
        # The reference judges the fit on other ranks than it fits: one later, and up to ten before the end.
        last = 500 if len(spectrum) >= 512 else len(spectrum) - 10
        g.expect(f"R2_lo{low}_hi{high}", power_law_r2(spectrum, law, first=low + 2, last=last), tolerance)
    for m in g.matching(r"ols_alpha_rank(\d+)_(\d+)"):
        g.expect(m[0], power_law(spectrum, int(m[1]), int(m[2]), weighted=False).alpha, tolerance)


def diagnostics(g: Golden) -> None:
    for suffix in ("", "_lowrank"):
        z = g["z" + suffix]
        g.expect("rankme" + suffix, rankme(z, eps=g.number("rankme_eps")))
        g.expect("std_l2" + suffix, unit_standard_deviation(z))
    g.expect("corrcoef", correlation(g["z"]))


def knn_lightly(g: Golden) -> None:
    votes = knn_vote(
        *(g["query"], g["bank"], g["bank_labels"]),
        num_classes=int(g.number("num_classes")),
        k=int(g.number("k")),
        temperature=g.number("t"),
    )
    # Classes without a vote tie, in any order: our votes, read in the reference's order, must fall as ours sorted do.
    torch.testing.assert_close(votes.gather(1, g["ranked_classes"]), votes.sort(1, descending=True).values)
    assert torch.equal(votes.argmax(1), g["ranked_classes"][:, 0])
    g.expect("top1", (votes.argmax(1) == g["query_labels"]).double().mean())
