"""The theory as a laboratory: the dynamics that explain these methods, as vector fields, closed forms and simulations.

One idea per file, float64 numpy, scipy's integrators. Names are those of the objectives.
"""
