"""What an embedding looks like, and whether it collapsed: measures of tensors, rows of the log, a verdict from numbers.

measures.py    numbers that describe features (V N width)
predictor.py   what a predictor does to the modes of the embedding
diagnose.py    one diagnosis of a run, or of a set of embeddings, from tensors
thresholds.py  every limit of the verdict, with the measurements it was chosen from
verdict.py     the verdict from rows of numbers alone; imports no torch
remedies.py    what to try against each collapse
"""
