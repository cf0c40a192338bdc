"""Objectives with gradients in closed form, where plain autograd holds many copies of large matrices.

Each file here repeats formulas of `functional.moments`, `functional.similarity` and the objectives, which stay as they
are: they are what a reader checks against the paper, and what the tests check these against.

What all of them do
* By shape the smaller matrix: Gram (N x N) or covariance (D x D). Symmetric ones are computed on and above the
  diagonal only, in strips (`strips.py`). No mask, no copy without a diagonal, and never the larger matrix.
* What outlives the forward pass is not larger than z: the smaller matrix (VICReg), or the costly term's gradient
  (Barlow Twins, NT-Xent). One tensor of the size of z, the gradient, is made in the backward pass.
* Each term has a derivative of its own, the cheap ones (columns times z) built again from z. So any weights, unequal
  ones too, give the right gradient without being known in the forward pass, and without reading a value back from a
  GPU. A weighted sum kept as one gradient would save a few passes over z and could not do this.
* Where z needs no gradient, or under `torch.no_grad`, the forward pass computes values alone at half the cost.
* A second derivative is refused with an error (`first_order.py`).

They compute in the dtype they are given and, like the plain forms, do not switch autocast off: objectives do both.
"""
