"""Measures of the predictor: whether the eigenvectors of F are eigenvectors of W_p too, and how W_p scales them.

F = E[z z^T] is the second moment of the embeddings, not centred; its eigenvectors v_j are the modes, largest first.
W_p is the predictor as a matrix, p = W_p z. In the linear theory (Tian et al. 2021, arXiv 2102.06810) the
eigenvectors of both become equal during training, and each mode then grows or decays independently. A predictor with a
hidden layer has no such matrix; it is described by the linear map that fits it best.

Everything is computed on the CPU in float64, in the basis of the modes: A = [v_i^T W_p v_j], F = diag(s).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenview.errors import require
from eigenview.functional.predictors import second_moment
from eigenview.runfiles import json_ready

PREDICTOR_MEASURES = (
    "commutator",
    "asymmetry",
    "alignment",
    "alignment_min",
    "negative",
    "largest_F",
    "largest_W_p",
    "linear_share",
    "modes",
)
"""The keys of the row, in the order in which they are written."""

CUTOFF = 1e-12
"""Share of F's largest eigenvalue below which only the rounding of float32 embeddings is left."""
ROUNDING = 1e-6  # an eigenvalue counts as negative if it is below 0 by this share of the longest W_p v
MOST_OF_F = 0.99  # of the trace: the modes that alignment_min considers
CHANCE = 0.5  # largest error of a mode's W_p v by chance, as a share of W_p's size


def diagnose_predictor(
    z: Tensor, p: Tensor, z_target: Tensor | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(row, spectra) of `predictor_measures` for embeddings z (V N D) and their predictions p (V N D), any predictor.

    W_p is the least-squares map of `linear_map`, restricted to the modes in which these rows determine it. A linear
    predictor is determined in every mode that z has. Any other leaves a residual r, which by chance changes W_p v_j by
    about |r| / sqrt((V N - modes) s_j). Modes in which this exceeds half of W_p's size, |W_p z| / |z| (root mean
    squares), are left out of all measures and are nan in the spectrum "alignment"; "modes" is the number of the others,
    "linear_share" the share of p that the map explains in them. v_j^T W_p v_j is known more precisely, because only
    v_j . r changes it: the spectrum "W_p" is nan where that change exceeds half. (Chance still adds to the asymmetry, a
    few tenths for 1,024 rows.) If z has as many directions as rows, any predictor would be fitted without residual;
    then the modes are at most half of the rows.

    Two more spectra, (D,) each, serve to compare a run with the theory: "noise", the variance along v_j of the views of
    an image (unbiased over views, mean over images), which is the theory's X' in embedding space; and with `z_target`
    (V N D), the target network's embeddings of the same views, "target", E[(v_j . z_target) (v_j . z)] / s_j, the
    theory's tau: 1 if the target is the network itself, nan in modes below 1e-12 of the largest.

    If z or p contains nan or infinity, measures are None and spectra nan.
    """
    require(z.ndim == 3, "z", tuple(z.shape), "three axes: views, samples, width")
    require(p.shape == z.shape, "p", tuple(p.shape), f"the shape of z, {tuple(z.shape)}")
    names = ["F", "W_p", "alignment", "noise"] + (["target"] if z_target is not None else [])
    if not (z.isfinite().all() and p.isfinite().all()):
        return dict.fromkeys(PREDICTOR_MEASURES), {name: np.full(z.shape[2], math.nan) for name in names}
    z, p = _on_cpu(z), _on_cpu(p)
    s, v = _modes(second_moment(z))
    rows, num = z.shape[0] * z.shape[1], _rank(s)
    num = rows // 2 if num >= rows else num
    A, power = _fit(z, p, s, v, num)
    fitted = A.square() * s  # of E(v_i . p)^2, by each mode j
    # expected squares of the error of v_i^T W_p v_j, and of W_p v_j
    errors = (power - fitted.sum(dim=1)).clamp_min(0.0) / (rows - num)
    bound = CHANCE**2 * fitted.sum() / s[:num].sum()
    known, diagonal_known = (errors.sum() <= bound * s)[:num], (errors <= bound * s)[:num]
    num_known = int(known.sum())
    row, spectra = _measures(s, A * (torch.arange(len(s)) < num_known), num_known, _share(fitted[:, :num_known], power))
    spectra["W_p"] = np.full(len(s), math.nan)
    spectra["W_p"][:num] = torch.where(diagonal_known, A.diagonal()[:num], math.nan).numpy()
    spectra["alignment"][num_known:] = math.nan
    spectra["noise"] = ((z - z.mean(dim=0)) @ v).square().mean(dim=1).sum(dim=0).div(max(1, len(z) - 1)).numpy()
    if z_target is not None:
        require(z_target.shape == z.shape, "z_target", tuple(z_target.shape), f"the shape of z, {tuple(z.shape)}")
        both = ((_on_cpu(z_target) @ v) * (z @ v)).mean(dim=(0, 1))
        spectra["target"] = torch.where(s > CUTOFF * s[0], both / s, math.nan).numpy()
    return row, spectra


def linear_map(z: Tensor, p: Tensor) -> tuple[Tensor, float]:
    """(W_p (D D), share): the linear map without offset nearest to z -> p (V N D), and the share of p it explains.

    **Definition** - W_p = E[p z^T] F^+, the least-squares solution of smallest norm; F^+ inverts the eigenvalues of F
    above 1e-12 of the largest. share = E|W_p z|^2 / E|p|^2: 1 for a linear predictor without offset, and for p = 0.
    With as many directions in z as rows it is 1 whatever the predictor is.
    """
    z, p = _on_cpu(z), _on_cpu(p)
    s, v = _modes(second_moment(z))
    A, power = _fit(z, p, s, v, _rank(s))
    return v @ A @ v.T, _share(A.square() * s, power)


def predictor_measures(
    F: Tensor, W_p: Tensor, linear_share: float = 1.0
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(row, spectra) of a second moment F (D D, symmetric) with eigenvalues s_j, descending, and of W_p (D D).

    commutator     ||F W_p - W_p F||_F / (||F||_F ||W_p||_F): 0 if both have the same eigenvectors
    asymmetry      ||W_p - W_p^T||_F / ||W_p||_F, 0 to 2
    alignment      mean over modes of cos(v_j, W_p v_j) weighted by s_j, -1 to 1; 1 if all v_j are eigenvectors of W_p
                   with positive eigenvalues. For equal s_j the v_j are arbitrary, and so are their cosines
    alignment_min  the smallest of them among the largest modes that hold 99 % of the trace of F
    negative       number of eigenvalues of the symmetric part of W_p below 0, by more than 1e-6 of the longest W_p v
    largest_F      s_1; largest_W_p: the largest eigenvalue of the symmetric part of W_p
    linear_share   as given; modes: D, see `diagnose_predictor`

    spectra: "F" the s_j, "W_p" the v_j^T W_p v_j, which are W_p's eigenvalues if it is aligned, "alignment" the
    cosines; each (D,), float64. A ratio with denominator 0 is 0: F = 0 or W_p = 0 have commutator, asymmetry and
    alignment 0, and a mode that W_p maps to 0 (under 1e-12 of the longest W_p v) has cosine 0.
    """
    require(F.ndim == 2 and F.shape[0] == F.shape[1], "F", tuple(F.shape), "a square matrix")
    require(W_p.shape == F.shape, "W_p", tuple(W_p.shape), f"the shape of F, {tuple(F.shape)}")
    s, v = _modes(_on_cpu(F))
    return _measures(s, v.T @ _on_cpu(W_p) @ v, len(s), linear_share)


def _measures(s: Tensor, A: Tensor, num: int, linear_share: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The measures in the basis of the modes, of which the first `num` count; columns of A after them are 0.

    Symmetry is measured within those modes, because W_p is not known in the others.
    """
    inner = A[:num, :num]
    symmetric = torch.linalg.eigvalsh((inner + inner.T) / 2)
    size, lengths = A.norm().item(), A.norm(dim=0)
    cosines = torch.where(lengths > CUTOFF * lengths.max(), A.diagonal() / lengths, 0.0).clamp(-1.0, 1.0)
    held, counted = s.cumsum(0), s[:num]
    most = min(num, 1 + int((held < MOST_OF_F * held[-1]).sum()))
    row = {
        "commutator": _ratio(((s[:, None] - s) * A).norm().item(), s.norm().item() * size),
        "asymmetry": _ratio((inner - inner.T).norm().item(), inner.norm().item()),
        "alignment": _ratio((counted * cosines[:num]).sum().item(), counted.sum().item()),
        "alignment_min": cosines[:most].min().item() if most and held[-1] > 0 else 0.0,
        "negative": int((symmetric < -ROUNDING * lengths.max()).sum()),
        "largest_F": s[0].item(),
        "largest_W_p": symmetric[-1].item() if num else 0.0,
        "linear_share": linear_share,
        "modes": num,
    }
    spectra = {"F": s.numpy(), "W_p": A.diagonal().numpy().copy(), "alignment": cosines.numpy()}
    return json_ready({name: row[name] for name in PREDICTOR_MEASURES}), spectra


def _modes(F: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of F, descending and not below 0, and its eigenvectors as columns."""
    values, vectors = torch.linalg.eigh((F + F.T) / 2)
    return values.flip(0).clamp_min(0.0), vectors.flip(1)


def _rank(s: Tensor) -> int:
    """Number of modes of z above rounding."""
    return int((s > CUTOFF * s[0]).sum())


def _fit(z: Tensor, p: Tensor, s: Tensor, v: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """A = [E[(v_i . p) (v_j . z)] / s_j], with 0 after the first `num` columns; and E(v_i . p)^2."""
    along_z, along_p = z.flatten(0, 1) @ v, p.flatten(0, 1) @ v
    A = torch.zeros_like(v)
    A[:, :num] = along_p.T @ along_z[:, :num] / len(along_z) / s[:num]
    return A, along_p.square().mean(dim=0)


def _share(fitted: Tensor, power: Tensor) -> float:
    return min(1.0, _ratio(fitted.sum().item(), power.sum().item())) if power.any() else 1.0


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else 0.0


def _on_cpu(x: Tensor) -> Tensor:
    """float64 on the CPU: not every accelerator has it."""
    return x.detach().cpu().double()
