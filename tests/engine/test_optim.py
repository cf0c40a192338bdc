"""LARS against steps worked by hand, and what build_optimizer puts where."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eigenview.config import OptimConfig
from eigenview.engine.optim import LARS, build_optimizer, peak_learning_rate
from eigenview.errors import UserError
from eigenview.methods.parts.method import Method
from eigenview.models import libraries
from eigenview.models.encoders import OWN, resolve
from eigenview.records import Needs


class Plain(Method):
    """A method that is one network, all of whose parameters are optimised alike."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(Needs())
        self.network = network


def stepped(w: list[float], g: list[float], ndim: int = 2, **options: object) -> torch.Tensor:
    """A weight after one step of LARS at rate 0.1."""
    weight = nn.Parameter(torch.tensor(w, dtype=torch.float64).reshape((1,) * (ndim - 1) + (-1,)))
    weight.grad = torch.tensor(g, dtype=torch.float64).reshape(weight.shape)
    LARS([weight], **{"lr": 0.1, "trust_coefficient": 0.01, **options}).step()  # type: ignore[arg-type]
    return weight.detach().flatten()


def test_official_ratio_by_hand() -> None:
    """|w| = 5; g + 2 w = (6, 8) has norm 10: q = 0.01 * 5 / 10."""
    moved = stepped([3, 4], [0, 0], weight_decay=2.0)
    torch.testing.assert_close(moved, torch.tensor([3 - 0.1 * 0.005 * 6, 4 - 0.1 * 0.005 * 8]).double())


def test_solo_ratio_by_hand() -> None:
    """|w| = 5, |g| = 2.5, decay 0.1: q = 0.01 * 5 / (2.5 + 0.5), on g + 0.1 w."""
    moved = stepped([3, 4], [1.5, 2], weight_decay=0.1, variant="solo")
    q = 0.05 / 3
    torch.testing.assert_close(moved, torch.tensor([3 - 0.1 * q * 1.8, 4 - 0.1 * q * 2.4]).double())


def test_clip_never_steps_further_than_sgd() -> None:
    """A tiny gradient would give a ratio above the rate: clipped, the step is plain SGD's."""
    moved = stepped([3, 4], [1e-6, 0], variant="solo", clip=True)
    torch.testing.assert_close(moved, torch.tensor([3 - 0.1e-6, 4], dtype=torch.float64), rtol=1e-15, atol=0)


@pytest.mark.parametrize("options", [{"variant": "official"}, {"variant": "solo"}, {"variant": "solo", "clip": True}])
def test_edges_of_both_variants(options: dict[str, object]) -> None:
    bias = stepped([3, 4], [1, 1], ndim=1, weight_decay=0.5, **options)
    torch.testing.assert_close(bias, torch.tensor([2.9, 3.9]).double())  # no decay, no ratio
    torch.testing.assert_close(stepped([0, 0], [1, 2], **options), torch.tensor([-0.1, -0.2]).double())
    assert stepped([3, 4], [0, 0], **options).tolist() == [3, 4]
    assert stepped([3, 4], [1, 1], **(options | {"lr": 0.0})).tolist() == [3, 4]  # the first step of a warm-up


def test_momentum_accumulates_and_survives_saving() -> None:
    def two_steps(save: bool) -> torch.Tensor:
        weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
        optimizer = LARS([weight], lr=0.1, trust_coefficient=1.0)
        for k in range(3):
            weight.grad = torch.full_like(weight, k + 1.0)
            optimizer.step()
            if save:
                saved = optimizer.state_dict()
                optimizer = LARS([weight], lr=0.1, trust_coefficient=1.0)
                optimizer.load_state_dict(saved)
        return weight.detach()

    assert torch.equal(two_steps(save=True), two_steps(save=False))
    # q g has the norm of w here, whatever the gradient's length: velocities 1, 0.9 + w, 0.9 v + w
    w, v = 1.0, 0.0
    for _ in range(3):
        v = 0.9 * v + w
        w -= 0.1 * v
    torch.testing.assert_close(two_steps(save=False), torch.full((2, 2), w, dtype=torch.float64))


def test_wrong_options_are_refused() -> None:
    parameters = [nn.Parameter(torch.ones(2))]
    with pytest.raises(UserError, match=r"clip.*solo"):
        LARS(parameters, lr=0.1, clip=True)
    with pytest.raises(UserError, match=r"\blr\b.*-1"):
        LARS(parameters, lr=-1)
    with pytest.raises(UserError, match=r"variant.*other"):
        LARS(parameters, lr=1, variant="other")  # type: ignore[arg-type]


@pytest.mark.parametrize(("scaling", "expected"), [("linear", 0.4), ("sqrt", 0.2), ("none", 0.1)])
def test_peak_follows_the_batch(scaling: str, expected: float) -> None:
    config = OptimConfig(lr_per_256=0.1, batch_scaling=scaling)  # type: ignore[arg-type]
    assert peak_learning_rate(config, 1024) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars", "lars-clip"])
def test_every_optimizer_learns_and_decays_weights_only(name: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    module[0].bias.requires_grad_(False)
    config = OptimConfig(name=name, lr_per_256=0.05, weight_decay=0.01, trust_coefficient=0.1)  # type: ignore[arg-type]
    optimizer = build_optimizer(config, Plain(module), batch_size=256)
    decayed, plain = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0)

    x = torch.randn(32, 3)
    y = x.sum(1, keepdim=True)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (module(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(UserError, match=r"parameter.*trainable"):
        build_optimizer(OptimConfig(), Plain(nn.Linear(2, 2).requires_grad_(False)), batch_size=8)


@pytest.mark.parametrize(
    ("name", "size", "plain"),
    [
        ("conv-tiny", 16, set()),
        ("timm:resnet18", 32, set()),
        ("timm:convnext_atto", 32, set()),
        ("timm:test_vit", 32, {"cls_token", "pos_embed"}),
        ("timm:test_vit2", 32, {"reg_token", "pos_embed"}),
        ("timm:swin_tiny_patch4_window7_224", 224, {"relative_position_bias_table"}),
        ("timm:xcit_nano_12_p16_224", 32, {"temperature", "cls_token", "weight"}),
        ("torchvision:vit_b_32", 32, {"class_token", "pos_embedding"}),
        ("torchvision:swin_t", 32, {"relative_position_bias_table"}),
        ("torchvision:convnext_tiny", 32, {"layer_scale"}),
    ],
)
def test_what_is_no_weight_of_a_layer_is_not_decayed(name: str, size: int, plain: set[str]) -> None:
    """Last parts of the names of parameters with two axes or more that have neither decay nor LARS's ratio."""
    with torch.device("meta"):
        method = Plain(libraries_network(name, size))
    decayed, others = build_optimizer(OptimConfig(name="lars", weight_decay=0.1), method, batch_size=256).param_groups
    assert (decayed["weight_decay"], decayed["scaled"]) == (0.1, True)
    assert (others["weight_decay"], others["scaled"]) == (0.0, False)
    names = {id(p): name for name, p in method.named_parameters()}
    assert {names[id(p)].rpartition(".")[2] for p in others["params"] if p.ndim > 1} == plain
    assert all(p.ndim > 1 for p in decayed["params"])


def libraries_network(name: str, size: int) -> nn.Module:
    library, model = resolve(name)
    return OWN[model][0](3) if library is None else libraries.create(library, model, size)


def test_a_group_that_is_not_scaled_takes_plain_steps() -> None:
    token = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    token.grad = torch.tensor([[1.0, 1.0]])
    LARS([{"params": [token], "scaled": False}], lr=0.1, trust_coefficient=0.01).step()
    torch.testing.assert_close(token.detach(), torch.tensor([[2.9, 3.9]]))


def test_a_state_of_an_earlier_version_without_scaled_is_read() -> None:
    module = Plain(nn.Linear(2, 2))
    optimizer = build_optimizer(OptimConfig(name="lars"), module, batch_size=256)
    state = optimizer.state_dict()
    old = {**state, "param_groups": [{k: v for k, v in g.items() if k != "scaled"} for g in state["param_groups"]]}
    optimizer.load_state_dict(old)
    assert [group["scaled"] for group in optimizer.param_groups] == [True, True]  # biases have one axis anyway
