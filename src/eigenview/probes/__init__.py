"""Accuracies of frozen features, offline, on labelled images: k-NN, logistic regression, the same with few labels.

features.py  images -> features, of an encoder or of the raw pixels
labels.py    what a probe asks of its labels, checked once
knn.py       weighted k-NN vote
linear.py    multinomial logistic regression, with all labels or a few per class
protocol.py  the table of all of them beside the baselines, with a sentence on how each number is made
"""
