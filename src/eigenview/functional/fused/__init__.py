"""Batch statistics with gradients in closed form, where plain autograd keeps many copies of large matrices.

These are the one-process kernels behind the providers `batch_moments`, `cross_moments` and `contrast`. Tests compare
them with naive float64 formulas.

What they have in common
* By shape the smaller matrix: Gram (N x N) or covariance (D x D). Symmetric ones are computed on and above the
  diagonal only, in strips (`strips.py`). No mask, no copy without a diagonal, and never the larger matrix.
* What outlives the forward pass is not larger than z: the smaller matrix (VICReg), or the costly term's gradient
  (Barlow Twins, NT-Xent). One tensor of the size of z, the gradient, is made in the backward pass.
* Each term has its own derivative; the cheap ones (columns times z) are computed again from z. So any weights, unequal
  ones too, give the right gradient without being known in the forward pass, and without reading a value back from a
  GPU. A weighted sum kept as one gradient would save a few passes over z and could not do this.
* Where z needs no gradient, or under `torch.no_grad`, the forward pass computes values alone at half the cost.
* They raise on double backward (`first_order.py`).

They compute in the dtype of their input and leave autocast as it is: `Objective` handles both.
"""
