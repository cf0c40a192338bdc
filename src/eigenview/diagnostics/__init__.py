"""What an embedding looks like, and whether it collapsed: measures of tensors, rows of the log, a verdict from numbers.

measures.py  numbers that describe (V N width) features
monitor.py   one diagnosis of a run, or of an embeddings file, from tensors
verdict.py   the judgement, from rows of numbers alone (free of torch), with all thresholds
"""
