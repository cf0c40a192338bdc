"""Training: the loop and the one step, optimisers, schedules, callbacks, processes. Read train.py first."""
