"""Our functions against numbers from the authors' own programs: one test per file of tests/golden.

The environment variable EIGENVIEW_GOLDEN names further folders, separated as in PATH. The prefix of a file's name is
its family. Every array of a file is checked or listed in LEFT_OUT. A family in golden_waiting.py is skipped with its
reason; a file of any other unknown family fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import golden_losses as losses
from tests import golden_measures as measures
from tests import golden_predictors as predictors
from tests.golden_file import Golden
from tests.golden_predictors import power_tolerance
from tests.golden_waiting import WAITING

COMMITTED = Path(__file__).parent / "golden"
GIVEN = [Path(folder) for folder in os.environ.get("EIGENVIEW_GOLDEN", "").split(os.pathsep) if folder]
FOLDERS = [COMMITTED, *GIVEN]
FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*.npz"))]

# family -> arrays of methods that we do not have (the issues Family and Masked build NNCLR, MoCo and KoLeo), and facts
# about how a file was made: patterns, because temperatures are part of the names
LEFT_OUT = {
    "ntxent_lightly": ("dcl", "koleo_z1", "dkoleo_dz1"),
    "solo_losses": (
        *(r"nnclr_t[\d.]+", "dnnclr", r"mocov3_t[\d.]+", "dmocov3_dquery", "queue"),
        *(r"mocov2_normalised_q_k_t[\d.]+", "dmocov2_dq", "vibcreg_total"),
    ),
    "alphareq": ("seed", "n", "d", "true_decay"),
}


BUILT: dict[str, Callable[[Golden], None]] = {
    f.__name__: f
    for f in (
        *(losses.vicreg_official, losses.barlow_official, losses.multiview_fastssl, losses.cosine_byol_simsiam),
        *(losses.ntxent_lightly, losses.ntxent_luckmatters, losses.directclr_official, losses.directclr_toy),
        *(losses.solo_losses, predictors.directpred_official, predictors.directset_official),
        *(predictors.directcopy_official, predictors.isoloss_official),
        *(measures.lars_vicreg, measures.lars_solo, measures.lr_schedule, measures.ema_schedule),
        *(measures.alphareq, measures.diagnostics, measures.knn_lightly),
    )
}


def family_of(path: Path) -> str:
    families = [name for name in (*BUILT, *WAITING) if f"{path.stem}_".startswith(f"{name}_")]
    assert families, f"{path.name}: no known family; write its check, or give a reason in golden_waiting.py"
    return max(families, key=len)


def unchecked_arrays(family: str, golden: Golden) -> list[str]:
    left_out = LEFT_OUT.get(family, ())
    return sorted(name for name in golden.unread if not any(re.fullmatch(pattern, name) for pattern in left_out))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    family = family_of(path)
    if family in WAITING:
        pytest.skip(f"{family}: {WAITING[family]}")
    golden = Golden(path)
    BUILT[family](golden)
    unchecked = unchecked_arrays(family, golden)
    assert not unchecked, f"{path.name} holds {unchecked}, which nothing checked"


@pytest.mark.parametrize("family", WAITING)
def test_a_family_waits_with_its_reason(family: str) -> None:
    """Skipped with or without a file, so that every run prints the whole table."""
    assert family not in BUILT, f"{family} has a check: remove it from golden_waiting.py"
    pytest.skip(f"{family}: {WAITING[family]}")


@pytest.mark.parametrize("folder", GIVEN, ids=str)
def test_a_folder_that_is_named_holds_cases(folder: Path) -> None:
    assert list(folder.glob("*.npz")), f"{folder} of EIGENVIEW_GOLDEN holds no .npz file"


def test_the_committed_files_are_those_of_their_page() -> None:
    listed = re.findall(r"^- `(\S+\.npz)`", (COMMITTED / "README.md").read_text(), re.MULTILINE)
    assert listed == sorted(path.name for path in COMMITTED.glob("*.npz"))


def test_every_check_has_a_committed_file() -> None:
    assert {family_of(path) for path in COMMITTED.glob("*.npz")} == set(BUILT)


def test_an_unknown_family_fails() -> None:
    with pytest.raises(AssertionError, match="no known family"):
        family_of(Path("surprise_n8_d4.npz"))


def first_of(family: str, **flags: float) -> Golden:
    """The first committed file of a family whose arrays named in `flags` have those values."""
    for path in sorted(COMMITTED.glob(f"{family}_*.npz")):
        golden = Golden(path)
        if all(golden.number(name) == value for name, value in flags.items()):
            return golden
    raise AssertionError(f"{COMMITTED} holds no {family} with {flags}")


@pytest.mark.parametrize(("family", "setting"), [("directcopy_official", "power"), ("isoloss_official", "eps")])
def test_without_normalisation_the_programs_ignore_a_setting(family: str, setting: str) -> None:
    golden = first_of(family, spectral_normalise=False)
    golden.arrays[setting] = np.asarray(0.37)
    BUILT[family](golden)


def test_another_eps_of_lars() -> None:
    golden = first_of("lars_solo")
    for name in ("eps", "W0", "b0", "gradW", "gradb", "W", "b"):  # the same run in other units
        golden.arrays[name] = 100 * golden.arrays[name]
    BUILT["lars_solo"](golden)


def test_arrays_left_out_may_have_other_temperatures_in_their_names() -> None:
    golden = first_of("solo_losses")
    golden.arrays = {re.sub(r"^(nnclr|moco.*)_t.*", r"\1_t0.07", name): a for name, a in golden.arrays.items()}
    golden.unread = set(golden.arrays)
    BUILT["solo_losses"](golden)
    assert unchecked_arrays("solo_losses", golden) == []


@pytest.mark.parametrize("family", BUILT)
def test_a_name_may_be_the_family_alone(family: str) -> None:
    assert family_of(Path(f"{family}.npz")) == family


@pytest.mark.parametrize(("rank", "power", "tolerance"), [(4, 0.25, 1e-9), (3, 0.5, 1e-7), (3, 1.0, 1e-9)])
def test_rounding_counts_only_where_a_power_magnifies_it(rank: int, power: float, tolerance: float) -> None:
    moments = torch.diag((torch.arange(4) < rank).double())[None]
    assert power_tolerance(moments, power) == pytest.approx(tolerance)
