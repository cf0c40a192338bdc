"""Small images (up to about 64 px) with a small conv net: what `eigenview pretrain FOLDER` runs by default.

Paper: none; coefficients are the authors' own, optimiser and heads are sized for two CPU cores or one GPU.
Expected: experiments/results/methods (CIFAR-10 (JPEG), 10 epochs of the 32-128-128 net).
Time: an epoch of 50,000 images takes about 50 seconds at 24 px and 85 at 32 px on two quiet cores.
Command: eigenview pretrain FOLDER --method NAME
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eigenview.config import OptimConfig, RunConfig, with_fields
from eigenview.methods import config_class

ADAM = OptimConfig(name="adamw", lr_per_256=2.8e-3, batch_scaling="sqrt", weight_decay=1e-4)


def small(method: str, *, method_config: Any = None) -> RunConfig[Any]:
    """The small recipe of a method: the fields on its card, over settings that all methods share."""
    config = config_class(method)() if method_config is None else method_config
    common: RunConfig[Any] = RunConfig(method=config, optim=ADAM, epochs=40, batch_size=128)
    return with_fields(common, config.card.recipe)


def for_digits(config: RunConfig[Any]) -> RunConfig[Any]:
    """The same method for scikit-learn's 8 x 8 digits: more epochs; of these images a tiny net is the default."""
    return replace(config, data="digits", epochs=60)
