"""Values of the wrong type in a config: only Python code or an edited config.json can give them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from eigenview.config import with_fields
from eigenview.errors import UserError
from eigenview.methods import METHODS
from eigenview.recipes import RECIPES, default, load_recipe

# fields, and what the message must have: the field, the value, what is allowed
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"views": "3"}, "views.*'3'.*integer"),
    ({"views": 2.0}, r"views.*2\.0.*integer"),
    ({"stratified": 1}, "stratified.*1.*True.*False"),
    ({"precision": "fp16"}, "precision.*'fp16'.*auto, bf16, fp32"),
    ({"device": "tpu"}, "device.*'tpu'.*auto, cpu, cuda, mps"),
    ({"encoder": None}, "encoder.*None.*text"),
    ({"grad_cache_chunk": "8"}, "grad_cache_chunk.*'8'.*integer.*None"),
    ({"local_scale": (0.1,)}, r"local_scale.*\(0\.1,\).*number, .*number"),
    ({"method": 3}, "method.*3.*config"),
    ({"network": {"target": "emma"}}, r"network\.target.*'emma'.*auto, ema, online"),
    ({"optim": {"batch_scaling": "cubic"}}, r"optim\.batch_scaling.*'cubic'.*linear, sqrt, none"),
    ({"network": {"shared_weights": "no"}}, r"network\.shared_weights.*'no'.*True.*False"),
    ({"optim": {"clip_norm": 0.0}}, r"optim\.clip_norm.*0\.0.*above 0"),
    ({"optim": {"clip_norm": -1.0}}, r"optim\.clip_norm.*-1\.0.*above 0"),
    ({"optim": {"clip_norm": math.inf}}, r"optim\.clip_norm.*inf.*finite"),
    ({"loader": {"cache_gb": math.inf}}, r"loader\.cache_gb.*inf.*finite"),
    ({"monitor": {"every_epochs": math.inf}}, r"monitor\.every_epochs.*inf"),
    ({"method": {"covariance": math.inf}}, r"method\.covariance.*inf.*finite.*auto"),
    ({"seed": 2**63}, "seed.*9223372036854775808.*0 up to"),
    ({"image_size": 100_000}, "image-size.*100000.*8 to 4096"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_a_value_of_another_type_is_refused_with_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_fields(default("vicreg", "photos"), fields)


def test_equivalent_values_are_accepted() -> None:
    config = default("vicreg", "photos")
    fields: dict[str, Any] = {"views": np.int64(3), "local_views": 1, "local_scale": [0.1, 0.3], "data_fraction": 1}
    assert with_fields(config, fields).views == 3
    assert with_fields(config, {"method": {"covariance": "auto"}}).method.covariance == "auto"


@pytest.mark.parametrize("method", METHODS)
def test_the_default_config_of_every_method_passes(method: str) -> None:
    assert default(method, "digits").method.card.name == method


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_passes(name: str) -> None:
    load_recipe(name)
