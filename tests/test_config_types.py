"""Values of a config that only a caller in Python, or an edited config.json, can give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from eigenview.errors import UserError
from eigenview.methods import OBJECTIVES
from eigenview.recipes import RECIPES, default, load_recipe
from eigenview.run import with_fields

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"views": "3"}, "views is '3'; allowed: an integer"),
    ({"views": 2.0}, "views is 2.0; allowed: an integer"),
    ({"stratified": 1}, "stratified is 1; allowed: True or False"),
    ({"precision": "fp16"}, "precision is 'fp16'; allowed: auto, bf16, fp32"),
    ({"encoder": None}, "encoder is None; allowed: text"),
    ({"micro_batch": "8"}, "micro_batch is '8'; allowed: an integer or None"),
    ({"local_scale": (0.1,)}, r"local_scale is \(0.1,\); allowed: \(a finite number, a finite number\)"),
    ({"objective": 3}, "objective is 3; allowed: a config or a dict of its fields"),
    ({"network": {"target": "emma"}}, "network.target is 'emma'; allowed: auto, ema, online"),
    ({"optim": {"batch_scaling": "cubic"}}, "optim.batch_scaling is 'cubic'; allowed: linear, sqrt, none"),
    ({"loader": {"cache_gb": math.inf}}, "loader.cache_gb is inf; allowed: a finite number"),
    ({"monitor": {"every_epochs": math.inf}}, "monitor.every_epochs is inf; allowed: a finite number"),
    ({"objective": {"covariance": math.inf}}, "objective.covariance is inf; allowed: a finite number or auto"),
    ({"seed": 2**63}, "--seed is 9223372036854775808; allowed: 0 up to below"),
    ({"size": 100_000}, "--size is 100000; allowed: 8 to 4096"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_values_of_another_kind_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        with_fields(default("vicreg", "photos"), fields)


def test_what_means_the_same_is_taken() -> None:
    config = default("vicreg", "photos")
    fields: dict[str, Any] = {"views": np.int64(3), "local_views": 1, "local_scale": [0.1, 0.3], "data_fraction": 1}
    assert with_fields(config, fields).views == 3
    assert with_fields(config, {"objective": {"covariance": "auto"}}).objective.covariance == "auto"


@pytest.mark.parametrize("method", OBJECTIVES)
def test_every_method_has_a_config_of_the_declared_kinds(method: str) -> None:
    assert default(method, "digits").method == method


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_too(name: str) -> None:
    load_recipe(name)
