"""Probes of shared features are computed once, and again as soon as anything that decides them has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenview.config import ProbeConfig
from eigenview.probes import cache as probe_cache
from eigenview.probes import table as probe_tables
from eigenview.probes.protocols import PROTOCOLS, Protocol
from eigenview.probes.table import probe_table

CONFIG = ProbeConfig(labels_per_class=3, few_label_draws=2)
COLUMNS = 3
Table = Callable[..., dict[str, Any]]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the probes that were computed, as they are."""
    names: list[str] = []

    def counted(protocol: Protocol) -> Protocol:
        def run(*args: Any) -> Sequence[np.ndarray]:
            names.append(protocol.name)
            return protocol.run(*args)

        return replace(protocol, run=run)

    monkeypatch.setattr(probe_tables, "PROTOCOLS", tuple(map(counted, PROTOCOLS)))
    return names


@pytest.fixture
def table(tmp_path: Path) -> Table:
    def make(
        *, config: ProbeConfig = CONFIG, seed: int = 0, shift: float = 0.0, relabel: bool = False, **changes: Any
    ) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        train_y, test_y = np.arange(60) % 3, np.arange(30) % 3
        x = [rng.normal(size=(n, 4)).astype(np.float32) + y[:, None] for n, y in ((60, train_y), (30, test_y))]
        x[0][0, 0] += shift
        if relabel:
            train_y = train_y.copy()
            train_y[0] = 1
        given = {"shared": ("raw pixels",), "memory": tmp_path / "memory", "class_names": "abc"} | changes
        rows = {"raw pixels": (x[0], x[1]), "this encoder": (x[0][:, :2], x[1][:, :2])}
        found = probe_table(rows, train_y, test_y, config, seed=seed, **given)
        assert found.hits is not None
        answers = {row: {name: each.tolist() for name, each in of.items()} for row, of in found.hits.right.items()}
        return found.table | {"answers": answers}

    return make


def test_the_second_time_only_the_encoder_is_probed(table: Table, computed: list[str]) -> None:
    first = table()
    assert len(computed) == 2 * COLUMNS
    assert table() == first
    assert len(computed) == 3 * COLUMNS


@pytest.mark.parametrize(
    "changes",
    [
        {"config": replace(CONFIG, knn_k=7)},
        {"seed": 1},
        {"shift": 1e-6},
        {"relabel": True},
        {"class_names": "abcd"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_whatever_decides_the_numbers_makes_them_new(table: Table, computed: list[str], changes: Any) -> None:
    table()
    computed.clear()
    table(**changes)
    assert len(computed) == 2 * COLUMNS


CONTENTS = [b"", b"{", b"[]", b'{"knn": 99.0}', b'{"draws": 1, "images": 30, "right": "AA=="}']
CONTENTS += [
    b'{"draws": 1, "images": 30, "right": "AA"}',
    b'{"draws": 1, "images": 30, "right": "AAAAAA==", "checksum": "0"}',
]


def test_another_program_computes_anew(table: Table, computed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    table()
    computed.clear()
    monkeypatch.setattr(probe_cache, "program", lambda: "another")
    table()
    assert len(computed) == 2 * COLUMNS


@pytest.mark.parametrize("content", CONTENTS, ids=repr)
def test_a_damaged_entry_is_computed_anew(table: Table, computed: list[str], tmp_path: Path, content: bytes) -> None:
    first = table()
    for path in (tmp_path / "memory").iterdir():
        path.write_bytes(content)
    computed.clear()
    assert table() == first
    assert len(computed) == 2 * COLUMNS
    assert table() == first
    assert len(computed) == 3 * COLUMNS  # it was mended


def test_a_folder_that_cannot_be_made_costs_only_time(table: Table, computed: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert table(memory=tmp_path / "file" / "memory") == table(memory=None)
    assert len(computed) == 4 * COLUMNS
