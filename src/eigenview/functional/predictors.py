"""The predictor as a function of the embeddings' second moment: W_p = F^alpha, normalised, plus eps I.

F = E[z z^T] is symmetric and positive semi-definite: F = U diag(s) U^T with s >= 0, and a power of F is
U diag(s^alpha) U^T. With alpha = 1 no eigen-decomposition is needed, only the norm of F.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Norm = Literal["spectral", "frobenius", "none"]

KRYLOV = 32
"""Directions in which `largest_eigenvalue` looks: exact up to that width, else with an error that falls as
exp(-4 KRYLOV sqrt(gap)) for a relative gap below the largest eigenvalue."""
SQUARINGS = {torch.float32: 26, torch.float64: 50}
"""Squarings of the small matrix: they leave a relative error of at most 1 / 2^SQUARINGS in its largest eigenvalue."""


def second_moment(z: Float[Tensor, "V N D"]) -> Float[Tensor, "D D"]:
    """(1/(V N)) sum z z^T over all samples of all views: not centred, not of unit rows; symmetric to the bit."""
    rows = z.flatten(0, 1)
    moment = rows.T @ rows / len(rows)
    return (moment + moment.T) / 2


def largest_eigenvalue(F: Float[Tensor, "D D"]) -> Float[Tensor, ""]:
    """Largest eigenvalue of a symmetric positive semi-definite matrix, without waiting for the device.

    Lanczos with full reorthogonalisation projects F on min(D, 32) directions; the projection is then squared until only
    its largest eigenvalue is left. (torch's own routines decompose all of F, and on a GPU wait for it.)
    """
    width = F.shape[0]
    # a fixed start that no structured eigenvector is orthogonal to
    place = torch.arange(1, width + 1, dtype=F.dtype, device=F.device)
    direction = (place * place).sin() + 0.1 * place.cos()
    tiny = torch.finfo(F.dtype).tiny
    basis = torch.zeros(min(width, KRYLOV), width, dtype=F.dtype, device=F.device)
    for k in range(len(basis)):
        for _ in range(2):  # once leaves rounding that the second pass removes
            direction = direction - (basis[:k] @ direction) @ basis[:k]
        # a direction that is exhausted (F of low rank) becomes zero and adds nothing
        length = _norm(direction)
        direction = torch.where(length > 1e3 * torch.finfo(F.dtype).eps, direction / length.clamp_min(tiny), 0.0)
        basis[k] = direction
        image = F @ direction
        direction = image / _norm(image).clamp_min(tiny)
    small = (basis @ F @ basis.T).double()
    small = (small + small.T) / 2
    scale = small.diagonal().sum().clamp_min(tiny)
    power = small / scale
    for _ in range(SQUARINGS[F.dtype]):
        power = power @ power
        power = power / power.diagonal().sum().clamp_min(tiny)
    # power is now the projector on the top eigenvector (or on its eigenspace, over its dimension)
    return (power * small).sum().to(F.dtype)


def predictor_matrix(
    F: Float[Tensor, "D D"],
    alpha: float,
    eps: float,
    *,
    normalise_by: Norm = "spectral",
    eps_inside: bool = False,
    floor: float = 0.0,
) -> Float[Tensor, "D D"]:
    """DirectSet(alpha): W_p = F^alpha / ||F^alpha|| + eps I, from the largest eigenvalue of F alone where alpha = 1.

    In eigenvalues: p_j = max(q_j^alpha + eps, floor), or max(q_j + eps, floor)^alpha with `eps_inside`, where q_j =
    s_j / max s with the spectral norm, s_j with none, and the Frobenius norm is that of what is raised to the power
    (F, with eps inside; F^alpha, without). F = 0 gives q = 0. Negative s_j, which are rounding, count as 0.
    """
    if alpha == 1.0 and eps >= floor:
        norm = {
            "spectral": lambda: largest_eigenvalue(F),
            "frobenius": lambda: F.square().sum().sqrt(),
            "none": lambda: torch.ones_like(F[0, 0]),
        }[normalise_by]()
        return F / _above_zero(norm) + eps * torch.eye(len(F), dtype=F.dtype, device=F.device)
    U, p = predictor_eigenvalues(F, alpha, eps, normalise_by=normalise_by, eps_inside=eps_inside, floor=floor)
    return (U * p) @ U.mT


def predictor_eigenvalues(
    F: Float[Tensor, "D D"], alpha: float, eps: float, *, normalise_by: Norm, eps_inside: bool, floor: float
) -> tuple[Float[Tensor, "D D"], Float[Tensor, " D"]]:
    """(U, p) of `predictor_matrix`, for any alpha: W_p = U diag(p) U^T, eigenvalues ascending."""
    s, U = eigh(F)
    s = s.clamp_min(0.0)
    largest = s[-1]
    q = s / _above_zero(largest)
    if eps_inside:
        if normalise_by == "frobenius":
            q = q / _above_zero(_norm(q))
        q = s if normalise_by == "none" else q
        return U, (q + eps).clamp_min(floor) ** alpha
    power = q**alpha
    if normalise_by == "frobenius":
        power = power / _above_zero(_norm(power))
    elif normalise_by == "none":
        power = power * largest**alpha
    return U, (power + eps).clamp_min(floor)


def eigh(matrix: Float[Tensor, "*batch D D"]) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch D D"]]:
    """Eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices. On a GPU it waits for the device."""
    return tuple(torch.linalg.eigh(matrix))  # pyright: ignore


def _norm(x: Tensor) -> Tensor:
    return x.square().sum().sqrt()


def _above_zero(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny)
