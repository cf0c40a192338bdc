"""Checks of the golden families whose predictor is computed from a second moment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eigenview.functional.predictors import Norm
from eigenview.methods.directset import DirectSet, DirectSetConfig
from eigenview.methods.isoloss import IsoLoss, IsoLossConfig
from eigenview.methods.parts.closed_form import ClosedFormPredictor
from eigenview.methods.parts.isoloss_values import cosine_value, euclidean_value, root
from eigenview.methods.parts.method import Objective
from eigenview.records import Clock
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
    eps_inside, centre = bool(g.number("eps_inside")), bool(g.number("zero_mean"))
    config = DirectSetConfig(
        **{name: g.number(name) for name in ("rho", "eps")},
        alpha=power if spectral else 1.0,  # the authors' raw matrix is F + eps I, whatever the power
        refresh_every=int(g.number("freq")),
        normalise=bool(g.number("l2")),
        # without normalisation the authors take the matrix as it is, and no floor is applied to its eigenvalues
        floor=1e-4 if spectral else 0.0,
    )
    f = torch.stack([g["f1"], g["f2"]], dim=1)
    decomposed = g["F"] - g["mean_f"].unsqueeze(2) * g["mean_f"].unsqueeze(1) if centre else g["F"]
    # without normalisation: identity times eps in float32, in the reference; eps inside keeps eigenvalues off 0
    tolerance = power_tolerance(decomposed, 1.0 if eps_inside else power) if spectral else 1e-7
    predictor = ClosedFormPredictor(
        config,
        f.shape[-1],
        eps_inside=eps_inside,
        centre=centre,
        normalise_by="spectral" if spectral else "none",
    )
    objective = DirectSet(config, predictor=predictor).double()
    with torch.no_grad():
        predictor.W.copy_(g["W_init"])
    record: dict[str, list[Tensor]] = {"F": [], "mean_f": [], "Wp": [], "loss": [], "dloss_df1": []}
    for z in f:
        z = z.clone().requires_grad_()
        out = objective(Views(z=z, z_target=z.detach() @ g["W_target"]))
        loss = out.total
        record["loss"].append((loss - 4 if config.normalise else loss).detach())  # it drops the constant
        record["dloss_df1"].append(gradients(loss, z)[0][0])
        objective.update(out.carry, Clock())
        record["F"].append(predictor.F.clone())
        record["mean_f"].append(predictor.mean.clone())
        record["Wp"].append(predictor.W.detach().clone())
    for name, ours in record.items():
        g.expect(name, torch.stack(ours), 1e-9 if name in ("F", "mean_f") else tolerance)


def directpred_official(g: Golden) -> None:
    directset(g)


def directset_official(g: Golden) -> None:
    directset(g)


def directcopy_official(g: Golden) -> None:
    directset(g)


class ViewByView(ClosedFormPredictor):
    """The program of IsoLoss: F and W_p move with one view after another, before the loss; a matrix for each view."""

    def __init__(self, config: IsoLossConfig | DirectSetConfig, width: int, normalise_by: Norm) -> None:
        super().__init__(config, width, start="identity", eps_inside=True, normalise_by=normalise_by, initial="zero")
        self.double()
        self.matrices: list[Tensor] = []
        self.F_after: list[Tensor] = []

    def move(self, both: Tensor) -> None:
        self.matrices, self.F_after = [], []
        for view in both:
            moments = self.moments(view[None])
            self.update(moments["moment"][0], moments["mean"][0])
            self.matrices.append(self.W.detach().clone())
            self.F_after.append(self.F.clone())

    def predict(self, z: Tensor) -> Tensor:
        return z @ torch.stack(self.matrices).mT


def published_values(z: Tensor, t: Tensor, matrices: list[Tensor]) -> dict[str, Tensor]:
    """The values that the program reports, which differ from those of IsoLoss and have the same gradients."""
    p = z @ torch.stack(matrices).mT
    pairs = ((0, 1), (1, 0))
    return {
        "cos_iso": torch.stack([cosine_value(z[a], p[a], t[b], root(matrices[a])) for a, b in pairs]).sum(),
        "euc_iso": torch.stack([euclidean_value(z[a], p[a], t[b]) for a, b in pairs]).sum(),
    }


def isoloss_official(g: Golden) -> None:
    spectral, eps, alpha = bool(g.number("spectral_normalise")), g.number("eps"), g.number("alpha")
    # alpha 2: identity times eps in float32, in the reference; else eps keeps eigenvalues off 0
    tolerance = 1e-7 if alpha == 2 else power_tolerance(g["C_after_view1"], 1.0 if spectral and eps else alpha)
    # the program adds eps only where it has normalised
    options: dict[str, Any] = {"alpha": alpha, "rho": g.number("tau"), "eps": eps if spectral else 0.0}
    z, t = (torch.stack([g[f"{name}1"], g[f"{name}2"]], dim=1) for name in "zt")
    predictor = ViewByView(IsoLossConfig(**options), z.shape[-1], "spectral" if spectral else "none")
    objectives: dict[str, Objective] = {
        "cos_iso": IsoLoss(IsoLossConfig(metric="cosine", **options), predictor=predictor),
        "euc_iso": IsoLoss(IsoLossConfig(metric="euclidean", **options), predictor=predictor),
        "cos": DirectSet(DirectSetConfig(normalise=True, **options), predictor=predictor),
        "euc": DirectSet(DirectSetConfig(normalise=False, **options), predictor=predictor),
    }
    record: dict[str, list[Tensor]] = {}
    for k in range(len(z)):
        leaf = z[k].clone().requires_grad_()
        predictor.move(z[k])
        losses = {name: objective(Views(z=leaf, z_target=t[k])).total for name, objective in objectives.items()}
        values = losses | published_values(leaf, t[k], predictor.matrices)
        torch.testing.assert_close(values["euc_iso"], losses["euc_iso"], rtol=1e-12, atol=1e-12)  # the same number
        found = {f"loss_{name}": value for name, value in values.items()}
        for number, W in enumerate(predictor.matrices):
            found[f"C_after_view{number + 1}"] = predictor.F_after[number]
            found[f"p{number + 1}"] = predictor.predict(z[k])[number]
            found[f"psqrt{number + 1}"] = z[k, number] @ root(W).mT
        for name, value in found.items():
            record.setdefault(name, []).append(value.detach())
        if k == len(z) - 1:
            for name in losses:
                for loss in (losses[name], values[name]):  # ours, and the published value of IsoLoss
                    for number, gradient in enumerate(gradients(loss, leaf)[0], start=1):
                        g.expect(f"d{name}_dz{number}", gradient, tolerance)
    for name, ours in record.items():
        g.expect(name, torch.stack(ours), tolerance)
