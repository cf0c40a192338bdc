"""Training on Lightning: one module for every method, optimisers, schedules, callbacks. Read train.py first."""
