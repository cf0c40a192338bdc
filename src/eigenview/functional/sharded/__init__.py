"""Objectives of a batch that lies on several processes, each computing only its share of the work.

The single-process forms in `functional.fused` take the whole batch. Behind a gather every process would repeat all of
their work. Here a process computes its own rows of the Gram matrix against the gathered batch, or its share of a D x D
sum over rows or of an N x N sum over features, which is then summed over processes; by whichever sends fewer numbers
(`processes.py`). Values come out equal everywhere, and gradients are those of the rows at hand.

Symmetry saves the single-process forms half of a Gram matrix. Rows that are spread over processes cannot use it, so
that two processes take about as long as one. Sums over features can (`columns.py`), from three processes on.
"""
