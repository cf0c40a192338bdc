"""The verdict on constructed histories whose state is known: isotropic, one point, few directions, exploding."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import Any, get_args

import pytest
import torch

from eigenview.config import RunConfig, with_fields
from eigenview.diagnostics.diagnose import diagnose, diagnose_embeddings
from eigenview.diagnostics.remedies import applicable, remedies
from eigenview.diagnostics.thresholds import THRESHOLDS
from eigenview.diagnostics.verdict import Label, judge
from eigenview.methods import METHODS, card, config_class
from eigenview.recipes.small import small

IMAGES, H, D = 200, 64, 128
LABELS = ("complete collapse", "dimensional collapse", "diverged")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def two_views(of_images: torch.Tensor, size: float = 0.1) -> torch.Tensor:
    """Features of two views: those of the images plus `size` of independent noise each."""
    return of_images + size * of_images.std() * noise(2, *of_images.shape, seed=5)


def row(step: int, z: torch.Tensor, h: torch.Tensor | None = None) -> dict[str, Any]:
    h = two_views(noise(IMAGES, H, seed=2)) if h is None else h
    return diagnose(h, z, step, step / 10)[0]


SPREAD = two_views(noise(IMAGES, D))
POINT = torch.ones(D) + 0.01 * two_views(noise(IMAGES, D))
FEW = two_views(noise(IMAGES, 2) @ noise(2, D, seed=1), size=0.005)
START = row(0, SPREAD)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("z", "label"), [(SPREAD, "healthy"), (POINT, "complete collapse"), (FEW, "dimensional collapse")]
)
def test_states_are_told_apart(method: str, z: torch.Tensor, label: str) -> None:
    verdict = judge([START, row(100, z)], card(method), width=D)
    assert verdict.label == label
    assert (verdict.since_epoch is None) == (label == "healthy")
    assert bool(verdict.remedies) == (label != "healthy")


@pytest.mark.parametrize("method", [m for m in METHODS if "vicreg" not in m])
@pytest.mark.parametrize("scale", [1e-3, 1e2])
def test_the_scale_of_a_run_does_not_matter(method: str, scale: float) -> None:
    """Angles decide, not units; the VICRegs alone ask for a standard deviation of 1."""
    for z, label in ((SPREAD, "healthy"), (POINT, "complete collapse"), (FEW, "dimensional collapse")):
        h = two_views(noise(IMAGES, H, seed=2))
        assert judge([START, row(100, z * scale, h * scale)], card(method), width=D).label == label


def test_an_embedding_that_shrank_is_one_point_though_its_directions_differ() -> None:
    verdict = judge([START, row(100, SPREAD * 0.01)], card("vicreg"), width=D)
    assert verdict.label == "complete collapse"
    assert "standard deviation 0.01" in verdict.reason
    assert judge([START, row(100, SPREAD * 1e-4)], card("barlow-twins"), width=D).label == "complete collapse"


def test_a_collapsed_representation_counts_though_batch_norm_spreads_the_embedding() -> None:
    h = torch.ones(H) + 0.001 * two_views(noise(IMAGES, H))
    verdict = judge([START, row(100, SPREAD, h)], card("simsiam"), width=D)
    assert verdict.label == "complete collapse"
    assert "representation" in verdict.reason


def test_a_moderate_common_mean_is_healthy() -> None:
    """Representations after a ReLU have cosines around 0.7 between images."""
    h = two_views(noise(IMAGES, H, seed=2)) + 1.5
    assert judge([START, row(100, SPREAD, h)], card("vicreg"), width=D).label == "healthy"


def test_since_is_the_first_epoch_of_the_last_stretch() -> None:
    steps = [(50, SPREAD), (100, POINT), (150, SPREAD), (200, POINT), (250, POINT)]
    verdict = judge([START, *(row(s, z) for s, z in steps)], card("simsiam"), width=D)
    assert verdict.since_epoch == 20.0
    assert judge([START, row(100, POINT), row(150, SPREAD)], card("simsiam"), width=D).label == "healthy"


def test_the_untrained_network_and_the_first_steps_are_not_judged() -> None:
    point = row(0, POINT)
    assert judge([], card("byol"), width=D).label == "too early to judge"
    assert judge([point], card("byol"), width=D).label == "too early to judge"
    early = judge([point, row(THRESHOLDS.first_judged_step - 1, POINT)], card("byol"), width=D)
    assert early.label == "too early to judge"
    assert f"{THRESHOLDS.first_judged_step - 1} steps trained" in early.reason
    assert early.remedies == early.notes == ()
    assert early.since_epoch is None
    assert judge([point, row(THRESHOLDS.first_judged_step, POINT)], card("byol"), width=D).label == "complete collapse"


def test_divergence_is_seen_at_once() -> None:
    huge = judge([START, row(2, SPREAD * 1e4)], card("vicreg"), width=D)
    assert huge.label == "diverged"
    assert huge.since_epoch == 0.2
    broken = SPREAD.clone()
    broken[0, 0, 0] = math.nan
    verdict = judge([START, row(5, SPREAD), row(10, broken)], card("vicreg"), width=D)
    assert verdict.label == "diverged"
    assert verdict.since_epoch == 1.0
    assert "not finite" in verdict.reason


def test_a_collapse_after_an_explosion_is_divergence_and_a_recovery_is_health() -> None:
    explosion = row(40, SPREAD, two_views(noise(IMAGES, H)) * 1e5)
    assert judge([START, explosion, row(100, POINT)], card("simsiam"), width=D).label == "diverged"
    assert judge([START, explosion, row(100, SPREAD)], card("simsiam"), width=D).label == "healthy"
    early = row(5, SPREAD, two_views(noise(IMAGES, H)) * 1e5)
    assert judge([START, early, row(10, SPREAD)], card("simsiam"), width=D).label == "diverged"


def test_the_engines_failure_is_the_reason() -> None:
    verdict = judge([START], card("vicreg"), width=D, failure="term invariance is nan at step 3.")
    assert (verdict.label, verdict.reason, verdict.since_epoch) == (
        "diverged",
        "term invariance is nan at step 3",
        None,
    )


def test_views_that_do_not_agree_get_a_note() -> None:
    unrelated = noise(2, IMAGES, D)
    verdict = judge([START, row(100, unrelated)], card("simclr"), width=D)
    assert verdict.label == "healthy"
    assert any("hardly closer" in note for note in verdict.notes)
    assert judge([START, row(100, SPREAD)], card("simclr"), width=D).notes == ()


def test_a_representation_that_lost_its_directions_gets_a_note() -> None:
    few = two_views(noise(IMAGES, 3) @ noise(3, H, seed=1), size=0.1)
    verdict = judge([START, row(100, SPREAD, few)], card("simclr"), width=D)
    assert verdict.label == "healthy"
    (note,) = verdict.notes
    before, after = (r["h"]["effective_rank"] for r in (START, row(100, SPREAD, few)))
    assert f"effective rank of {after:.3g}, the untrained network's {before:.3g}" in note
    # without the untrained network's row there is nothing to compare with; and what began low has lost nothing
    assert judge([row(50, SPREAD), row(100, SPREAD, few)], card("simclr"), width=D).notes == ()
    assert judge([row(0, SPREAD, few), row(100, SPREAD, few)], card("simclr"), width=D).notes == ()


def test_a_batch_small_for_the_rank_gets_a_note() -> None:
    """SPREAD has a participation ratio near N D / (N + D) = 78."""
    rows = [START, row(100, SPREAD)]
    assert "200 images is small" in judge(rows, card("vicreg"), width=D).notes[0]
    assert "--method unbiased-vicreg" in judge(rows, card("vicreg"), width=D).notes[0]
    note = judge(rows, card("barlow-twins"), width=D, batch_size=64).notes[0]
    assert "--batch-size, or --method.estimator unbiased" in note
    assert judge(rows, card("vicreg"), width=D, batch_size=4096).notes == ()
    assert judge(rows, card("simclr"), width=D, batch_size=64).notes == ()


def test_the_reason_holds_the_measured_numbers() -> None:
    measured = row(100, POINT)
    verdict = judge([START, measured], card("simsiam"), width=D)
    assert f"{measured['z']['spread']:.2g}" in verdict.reason
    measured = row(100, FEW)
    reason = judge([START, measured], card("byol"), width=D).reason
    assert f"RankMe {measured['z']['rankme_centred']:.3g}" in reason
    assert f"effective rank {measured['z']['effective_rank']:.3g}" in reason
    assert f"directions of {D} " in reason
    # with fewer images than dimensions the images bound the rank
    wide = two_views(noise(50, D))
    reason = judge([START, row(100, wide, two_views(noise(50, H)))], card("byol"), width=D).reason
    assert "of 49" in reason


@pytest.mark.parametrize("method", METHODS)
def test_remedies_name_options_that_exist(method: str) -> None:
    """Each --option in a remedy is a field of the configuration that this method takes."""
    config = RunConfig(method=config_class(method)())
    labels = ("complete collapse", "dimensional collapse", "diverged")
    texts = [text for label in labels for text in remedies(label, card(method))]
    assert len(texts) >= 3
    for text in (*texts, *applicable(card(method).plug_in_remedies, None)):
        for option in re.findall(r"--([a-z0-9.-]+)", text):
            value: Any = config
            for part in option.replace("-", "_").replace("no_", "").split("."):
                assert part in value.__dataclass_fields__, f"{option} in {text!r}"
                value = getattr(value, part)
        for name in re.findall(r"--method ([a-z-]+)", text):
            assert name in METHODS


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_advised_that_the_run_has(method: str) -> None:
    """Of every card: no remedy sets an option to the value that the default recipe has already."""
    config = small(method)
    texts = [text for label in LABELS for text in remedies(label, config.method.card, config)]
    texts += applicable(config.method.card.plug_in_remedies, config)
    for text in texts:
        for option, value in re.findall(r"--([a-z-]+\.[a-z0-9.-]+) ([0-9.]+|[a-z]+)(?:[,: ]|$)", text):
            ours: Any = config
            for part in option.replace("-", "_").split("."):
                ours = getattr(ours, part)
            assert str(ours).removesuffix(".0") != value, text
    assert all(remedies(label, config.method.card, config) for label in LABELS)


def test_an_encoder_that_keeps_the_averages_of_weights_needs_no_other_norms() -> None:
    plain, adapted = small("vicreg"), with_fields(small("vicreg"), {"weights": "x.pth"})
    first = {name: applicable(plain.method.card.plug_in_remedies, of)[0] for name, of in (("a", plain), ("b", adapted))}
    assert first["a"].startswith("norms of one image (--network.encoder-norm group --network.head-norm layer), with")
    assert first["b"].startswith("norms of one image (--network.head-norm layer), with --method unbiased-vicreg")
    done = with_fields(adapted, {"network": {"head_norm": "layer"}})
    assert not any("norms of one" in text for text in applicable(plain.method.card.plug_in_remedies, done))


@pytest.mark.parametrize(
    ("method", "fields", "label", "gone"),
    [
        ("vicreg", {"method": {"variance": 25.0}}, "complete collapse", "--method.variance"),
        ("vicreg", {"method": {"covariance": "auto"}}, "dimensional collapse", "--method.covariance"),
        ("unbiased-vicreg", {"method": {"covariance": 9.0}}, "dimensional collapse", "--method.covariance"),
        (
            "unbiased-vicreg",
            {"network": {"encoder_norm": "group", "head_norm": "layer"}},
            "dimensional collapse",
            "--network.encoder-norm",
        ),
        ("barlow-twins", {"method": {"off_diagonal": 0.01}}, "dimensional collapse", "--method.off-diagonal"),
        ("barlow-twins", {"optim": {"warmup_epochs": 5.0}}, "complete collapse", "--optim.warmup-epochs"),
        ("byol", {"network": {"target_momentum": 0.996}}, "complete collapse", "--network.target-momentum"),
        ("byol", {"network": {"projector_last_norm": True}}, "dimensional collapse", "--network.projector-last-norm"),
        ("simsiam", {"method": {"stop_gradient": True}}, "complete collapse", "keep the stop-gradient"),
        ("simclr", {"method": {"temperature": 0.3}}, "complete collapse", "--method.temperature"),
        ("simclr", {"method": {"temperature": 0.1}}, "dimensional collapse", "--method.temperature"),
        ("infonce", {"method": {"eps": 1.0}}, "complete collapse", "--method.eps"),
        ("directclr", {"method": {"temperature": 0.2}}, "complete collapse", "--method.temperature"),
        ("directset", {"optim": {"weight_decay": 0.0}}, "complete collapse", "--optim.weight-decay"),
        ("vicreg", {"precision": "fp32"}, "diverged", "--precision"),
    ],
)
def test_a_remedy_that_was_taken_is_not_advised_again(
    method: str, fields: dict[str, Any], label: str, gone: str
) -> None:
    config = with_fields(small(method), fields)
    assert any(gone in text for text in remedies(label, card(method)))
    assert not any(gone in text for text in remedies(label, card(method), config))


def test_a_note_on_small_batches_names_what_the_run_does_not_have() -> None:
    rows, own = [START, row(100, SPREAD)], {"encoder_norm": "group", "head_norm": "layer"}

    def notes(name: str, **fields: Any) -> tuple[str, ...]:
        config = with_fields(small(name), fields)
        return judge(rows, config.method.card, width=D, batch_size=64, config=config).notes

    assert "--network.encoder-norm group" in notes("vicreg")[0]
    assert notes("vicreg", network=own)[0].endswith(
        "Try a larger --batch-size, or --method unbiased-vicreg if the mean gradient has to be that of a larger batch."
    )
    assert notes("barlow-twins", method={"estimator": "unbiased"}) == ()  # nothing is inflated


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_equal_rows_get_no_advice_on_their_mean(value: float) -> None:
    """Its length over the spread is infinite, or nan: nothing would be left after it."""
    verdict = diagnose_embeddings(torch.full((20, 8), value))[1]
    assert verdict.label == "complete collapse"
    assert verdict.notes == ()
    assert "inf" not in verdict.reason
    assert "nan" not in verdict.reason
    moderate = diagnose_embeddings(noise(50, 8) + 10)[1]
    assert "subtract the mean first" in moderate.notes[0]


def test_labels_are_those_of_the_run_directory() -> None:
    assert get_args(Label) == (
        "healthy",
        "complete collapse",
        "dimensional collapse",
        "diverged",
        "too early to judge",
    )


def test_the_verdict_needs_no_torch() -> None:
    code = "import sys; import eigenview.diagnostics.verdict; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
