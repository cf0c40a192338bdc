"""Checks of the golden families whose predictor is computed from a second moment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eigenview.methods.base import Objective, total
from eigenview.methods.closed_form import ClosedFormPredictor
from eigenview.methods.direct_predictor import DirectSet, DirectSetConfig
from eigenview.methods.isoloss import IsoLoss, IsoLossConfig
from eigenview.views import Views
from tests.golden_file import Golden, gradients


def power_tolerance(moments: Tensor, power: float) -> float:
    """What rounding leaves of `moments` to a power, relative to the largest eigenvalue.

    An eigenvalue that is 0 comes out as rounding, up to about 1e-14 of the largest, in the reference's eigensolver and
    in ours. A power below 1 magnifies it: 1e-7 for the square root, as the README of the numbers says.
    """
    lacks_rank = bool((torch.linalg.matrix_rank(moments, hermitian=True) < moments.shape[-1]).any())
    return max(1e-14**power, 1e-9) if lacks_rank else 1e-9


def directset(g: Golden) -> None:
    spectral, power = bool(g.number("spectral_normalise")), g.number("power")
    config = DirectSetConfig(
        **{name: g.number(name) for name in ("rho", "eps")},
        alpha=power if spectral else 1.0,  # the authors' raw matrix is F + eps I, whatever the power
        refresh_every=int(g.number("freq")),
        centre=bool(g.number("zero_mean")),
        normalise=bool(g.number("l2")),
        eps_inside=bool(g.number("eps_inside")),
        normalise_by="spectral" if spectral else "none",
        # without normalisation the authors take the matrix as it is, and no floor is applied to its eigenvalues
        floor=1e-4 if spectral else 0.0,
    )
    f = torch.stack([g["f1"], g["f2"]], dim=1)
    decomposed = g["F"] - g["mean_f"].unsqueeze(2) * g["mean_f"].unsqueeze(1) if config.centre else g["F"]
    # without normalisation: identity times eps in float32, in the reference; eps inside keeps eigenvalues off 0
    tolerance = power_tolerance(decomposed, 1.0 if config.eps_inside else power) if spectral else 1e-7
    objective = DirectSet(config, width=f.shape[-1]).double()
    with torch.no_grad():
        objective.predictor.W[0] = g["W_init"]
    record: dict[str, list[Tensor]] = {"F": [], "mean_f": [], "Wp": [], "loss": [], "dloss_df1": []}
    for z in f:
        z = z.clone().requires_grad_()
        views = Views(z=z, z_target=z.detach() @ g["W_target"])
        loss = total(objective(views))
        record["loss"].append((loss - 4 if config.normalise else loss).detach())  # it drops the constant
        record["dloss_df1"].append(gradients(loss, z)[0][0])
        objective.update(views)
        record["F"].append(objective.predictor.F.clone())
        record["mean_f"].append(objective.predictor.mean.clone())
        record["Wp"].append(objective.predictor.W[0].detach().clone())
    for name, ours in record.items():
        g.expect(name, torch.stack(ours), 1e-9 if name in ("F", "mean_f") else tolerance)


def directpred_official(g: Golden) -> None:
    directset(g)


def directset_official(g: Golden) -> None:
    directset(g)


def directcopy_official(g: Golden) -> None:
    directset(g)


def isoloss_official(g: Golden) -> None:
    spectral, eps, alpha = bool(g.number("spectral_normalise")), g.number("eps"), g.number("alpha")
    # alpha 2: identity times eps in float32, in the reference; else eps keeps eigenvalues off 0
    tolerance = 1e-7 if alpha == 2 else power_tolerance(g["C_after_view1"], 1.0 if spectral and eps else alpha)
    closed: dict[str, Any] = {
        "alpha": alpha,
        "rho": g.number("tau"),
        "eps": eps if spectral else 0.0,  # the program adds eps only where it has normalised
        "normalise_by": "spectral" if spectral else "none",
        "eps_inside": True,
        "floor": 0.0,
        "initial": "zero",
        "order": "before",
    }
    z, t = (torch.stack([g[f"{name}1"], g[f"{name}2"]], dim=1) for name in "zt")
    width = z.shape[-1]
    objectives: dict[str, Objective] = {
        "cos_iso": IsoLoss(IsoLossConfig(metric="cosine", form="value", **closed), width=width),
        "euc_iso": IsoLoss(IsoLossConfig(metric="euclidean", form="value", **closed), width=width),
        "cos": DirectSet(DirectSetConfig(normalise=True, **closed), width=width),
        "euc": DirectSet(DirectSetConfig(normalise=False, **closed), width=width),
        "cos_iso through": IsoLoss(IsoLossConfig(metric="cosine", **closed), width=width),
        "euc_iso through": IsoLoss(IsoLossConfig(metric="euclidean", **closed), width=width),
    }
    record: dict[str, list[Tensor]] = {}
    for name, objective in objectives.items():
        objective.double()
        for k in range(len(z)):
            leaf = z[k].clone().requires_grad_()
            objective.update(Views(z=leaf, z_target=t[k]))
            loss = total(objective(Views(z=leaf, z_target=t[k])))
            record.setdefault(f"loss_{name}", []).append(loss.detach())
            if k == len(z) - 1:
                both = gradients(loss, leaf)[0]
                key = f"d{name.split()[0]}_dz"
                g.expect(f"{key}1", both[0], tolerance)
                g.expect(f"{key}2", both[1], tolerance)
    for name in ("cos_iso", "euc_iso", "cos", "euc"):
        g.expect(f"loss_{name}", torch.stack(record[f"loss_{name}"]), tolerance)
    isoloss_predictors(g, IsoLossConfig(**closed), z, tolerance)


def isoloss_predictors(g: Golden, config: IsoLossConfig, z: Tensor, tolerance: float) -> None:
    predictor = ClosedFormPredictor(config, z.shape[-1], views=2).double()
    seen: dict[str, list[Tensor]] = {}
    for both in z:
        for k, moment in enumerate(moments_view_by_view(predictor, both)):
            seen.setdefault(f"C_after_view{k + 1}", []).append(moment)
        p, root = predictor.predict(both).detach(), predictor.root()
        for k in (0, 1):
            seen.setdefault(f"p{k + 1}", []).append(p[k])
            seen.setdefault(f"psqrt{k + 1}", []).append(both[k] @ root[k].mT)
    for name, ours in seen.items():
        g.expect(name, torch.stack(ours), tolerance)


def moments_view_by_view(predictor: ClosedFormPredictor, both: Tensor) -> list[Tensor]:
    """F after each view of one update: after all but the last view, from a copy that sees these only."""
    copy = ClosedFormPredictor(predictor.config, both.shape[-1], views=1).double()
    copy.F, copy.updates = predictor.F.clone(), predictor.updates
    copy.update(both[:1])
    predictor.update(both)
    return [copy.F, predictor.F.clone()]
