"""The records of the probes: what files and reports say of them, word for word, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from eigenview.config import ProbeConfig
from eigenview.probes.protocols import PROTOCOLS, TITLES, Arrays, protocol_names

IMAGES = "frozen features of the last checkpoint, 6,000 training and 1,000 test images."


def test_names_titles_and_order_are_those_of_files_already_written() -> None:
    """probes.json and summary.json of earlier runs have these keys, and reports of several runs compare them."""
    assert TITLES == {"knn": "k-NN", "linear": "linear", "linear_few": "linear, few labels"}
    assert list(TITLES) == ["knn", "linear", "linear_few"]


def test_the_sentences_below_the_table() -> None:
    assert [p.describe(6000, 1000, ProbeConfig()) for p in PROTOCOLS] == [
        f"k = 20, cosine, votes weighted by exp(cosine / 0.07); {IMAGES}",
        "multinomial logistic regression, standardised features, L2 strength of 0.0001, 0.001, 0.01, 0.1, 1 chosen on "
        f"a third of the training images, L-BFGS of at most 200 iterations; {IMAGES}",
        "the same with 10 labels per class, L2 strength 0.01, mean and standard deviation of 5 draws of the labels; "
        f"{IMAGES}",
    ]


@pytest.mark.parametrize(
    ("option", "names"),
    [("all", list(TITLES)), ("knn", ["knn"]), ("linear", ["linear"]), ("linear-few", ["linear_few"])],
)
def test_options_of_the_command_line(option: str, names: list[str]) -> None:
    assert list(protocol_names(option)) == names


def test_each_record_writes_its_own_keys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    for protocol in PROTOCOLS:
        found = protocol.run(Arrays(x, y, x, y), ProbeConfig(few_label_draws=3), 2, 0, torch.device("cpu"))
        assert len(found) == (3 if protocol.draws_labels else 1)
        keys = set(protocol.numbers(np.stack(found) == y, y))
        assert protocol.name in keys
        assert keys <= {protocol.name, f"{protocol.name}_per_class", f"{protocol.name}_std"}


def test_importing_the_records_loads_no_heavy_library() -> None:
    code = "import eigenview.probes.protocols, sys; print(sorted({'torch', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
