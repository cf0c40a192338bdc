"""Batch statistics of a batch that is spread over processes, each of which computes its share of the work.

The one-process kernels in `functional.fused` take the whole batch; after a gather every process would repeat all of
their work. Here a process computes its own rows of the Gram matrix against the gathered batch, or its share of a D x D
sum, which is then summed over processes; whichever sends fewer numbers (`processes.py`). All processes get the same
values, and each the gradient for its rows.

Symmetry saves the one-process kernels half of a Gram matrix. Rows that are spread over processes cannot use it, so that
two processes take about as long as one.
"""
