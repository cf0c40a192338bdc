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
    half = rows.T @ (rows / (2 * len(rows)))
    return half + half.T


def largest_eigenvalue(F: Float[Tensor, "D D"]) -> Float[Tensor, ""]:
    """Largest eigenvalue of a symmetric positive semi-definite matrix, without waiting for the device.

    Lanczos: F in the basis of min(D, 32) directions is a tridiagonal matrix, which is then squared until only its
    largest eigenvalue is left. Rounding lets the directions lose their orthogonality: that repeats eigenvalues, and
    puts none above the largest by more than rounding (Paige 1980), which is float64's everywhere but in the products
    with F. (torch's own routines decompose all of F, and on a GPU wait for it.)
    """
    width, tiny = F.shape[0], torch.finfo(F.dtype).tiny
    scale = F.diagonal().sum().clamp_min(tiny).double()
    # a fixed start that no structured eigenvector is orthogonal to
    place = torch.arange(1, width + 1, dtype=torch.float64, device=F.device)
    image = (place * place).sin() + 0.1 * place.cos()
    last, beta = torch.zeros_like(image), _length(image)
    diagonal: list[Tensor] = []
    beside = [beta]
    for _ in range(min(width, KRYLOV)):
        # where the directions are exhausted (F of low rank) the next is zero, or rounding: neither adds anything
        direction = image / beta.clamp_min(tiny)
        image = (F @ direction.to(F.dtype)).double() / scale
        alpha = direction.dot(image)
        image = image.addcmul(direction, alpha, value=-1).addcmul(last, beta, value=-1)
        beta, last = _length(image), direction
        diagonal.append(alpha)
        beside.append(beta)
    off = torch.stack(beside)[1:-1]
    small = torch.diag(torch.stack(diagonal)) + torch.diag(off, 1) + torch.diag(off, -1)
    power = small / small.diagonal().sum().clamp_min(tiny)
    for _ in range(SQUARINGS[F.dtype]):
        power = power @ power
        power = power / power.diagonal().sum().clamp_min(tiny)
    # power is now the projector on the top eigenvector (or on its eigenspace, over its dimension)
    return ((power * small).sum() * scale).to(F.dtype)


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
    (F, with eps inside; F^alpha, without). F = 0 gives q = 0. Where F is decomposed, eigenvalues that are rounding
    (negative, or at most D 2.2e-16 times the largest) count as 0.
    """
    if alpha == 1.0 and eps >= floor:
        norm = {
            "spectral": lambda: largest_eigenvalue(F),
            "frobenius": lambda: _frobenius(F),
            "none": lambda: torch.ones_like(F[0, 0]),
        }[normalise_by]()
        W = F / _above_zero(norm)
        W.diagonal().add_(eps)
        return W
    U, p = predictor_eigenvalues(F, alpha, eps, normalise_by=normalise_by, eps_inside=eps_inside, floor=floor)
    return (U * p) @ U.mT


def predictor_eigenvalues(
    F: Float[Tensor, "D D"], alpha: float, eps: float, *, normalise_by: Norm, eps_inside: bool, floor: float
) -> tuple[Float[Tensor, "D D"], Float[Tensor, " D"]]:
    """(U, p) of `predictor_matrix`, for any alpha: W_p = U diag(p) U^T, eigenvalues ascending."""
    s, U = eigh(F)
    s = s.clamp_min(0.0)
    largest = s[-1]
    # the root of what is float64's rounding would be far larger than it, and differ between processes. No higher limit
    # in float32: eigenvalues of 1e-5 carry information there, and without them runs of IsoLoss move by 2e-4
    s = torch.where(s > len(s) * torch.finfo(torch.float64).eps * largest, s, 0.0)
    q = s / _above_zero(largest)
    if eps_inside:
        if normalise_by == "frobenius":
            q = q / _above_zero(_length(q))
        q = s if normalise_by == "none" else q
        return U, (q + eps).clamp_min(floor) ** alpha
    power = q**alpha
    if normalise_by == "frobenius":
        power = power / _above_zero(_length(power))
    elif normalise_by == "none":
        power = power * largest**alpha
    return U, (power + eps).clamp_min(floor)


def eigh(matrix: Float[Tensor, "*batch D D"]) -> tuple[Float[Tensor, "*batch D"], Float[Tensor, "*batch D D"]]:
    """Eigenvalues, ascending, and eigenvectors (columns) of symmetric matrices. On a GPU it waits for the device."""
    return tuple(torch.linalg.eigh(matrix))  # pyright: ignore


def _frobenius(F: Tensor) -> Tensor:
    # over its trace, which is no less for a second moment: squares of small or large entries leave float32's range
    trace = _above_zero(F.diagonal().sum())
    return trace * _length(F / trace)


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x)  # pyright: ignore


def _above_zero(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny)
