"""Accuracies of frozen features, offline, on labelled images: k-NN, logistic regression, the same with few labels.

protocols.py  one record per probe: name, title, how to run it, how to describe it; imports no torch
table.py      every probe on the encoder and on the baselines, and the table for the terminal
features.py   images -> features, of an encoder or of the raw pixels
knn.py        weighted k-NN vote
linear.py     multinomial logistic regression, with all labels or a few per class
labels.py     checks of the labels a probe is given
cache.py      stored numbers of the baselines that many runs share
"""
