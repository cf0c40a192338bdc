"""The real engine on a linear encoder and Gaussian images whose moments X and X' are known exactly.

Time. `methods.byol` with the Euclidean metric is the mean over samples of |p1 - t2|^2 + |p2 - t1|^2, each half twice
the theory's J = 1/2 E|W_p W x1 - W_a x2|^2: the loss is 4 J (`test_the_loss_is_four_times_the_theorys`). A step of SGD
at learning rate r and decay d is W <- W - r (4 grad J + d W), an Euler step of W' = -grad J - eta W over the time
dt = 4 r with eta = d / 4. The predictor's rate is alpha_p r and its decay d_p: alpha_p r d_p = dt eta asks for
d_p = 4 eta / alpha_p. The target keeps tau of itself, 1 - tau = beta dt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigenview import runfiles
from eigenview.config import RunConfig, to_dict, with_fields
from eigenview.engine.callbacks import MetricsWriter, Monitor
from eigenview.engine.loop import fit
from eigenview.engine.module import PretrainModule
from eigenview.methods.parts.building import Parts, Widths, momentum_at
from eigenview.methods.parts.closed_form import ClosedFormPredictor
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.methods.parts.method import Method, Objective
from eigenview.models.network import Network
from eigenview.models.target import TargetNetwork
from eigenview.recipes import default
from eigenview.records import Batch, Clock, Needs

SAMPLES = 64


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A linear network, its data and the theory's parameters."""

    W: np.ndarray
    """Encoder (k m)."""
    W_p: np.ndarray | None
    """Predictor (k k); None for one computed by the objective."""
    X: np.ndarray
    X_prime: np.ndarray
    eta: float
    alpha_p: float = 1.0
    beta: float | None = None
    """Rate of the target network; None for a target that is the network itself."""
    method: str = "byol"
    objective: dict[str, Any]
    """Options of the method."""
    unscaled: bool = False
    """A computed W_p is F^alpha itself: divided by no norm, without a smallest eigenvalue."""


def exact_views(X: np.ndarray, X_prime: np.ndarray, seed: int = 0) -> list[Tensor]:
    """Two views (SAMPLES m) x + n1, x + n2 of Gaussian images x under Gaussian noise.

    The draw is made exact: the sample's second moments are X for x, X' for n1 and n2, and 0 between any two of them.
    """
    m = len(X)
    draw = np.random.default_rng(seed).standard_normal((SAMPLES, 3 * m))
    white = draw @ np.linalg.inv(np.linalg.cholesky(draw.T @ draw / SAMPLES)).T
    x, *noise = np.split(white, 3, axis=1)
    views = [x @ root(X) + n @ root(X_prime) for n in noise]
    return [torch.from_numpy(view).float() for view in views]


def root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root, also of a singular covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def configuration(setting: Setting, dt: float, end: float, epochs: int) -> RunConfig[Any]:
    """The engine's options of the theory's parameters, see the head of this file."""
    optim = {"name": "sgd", "momentum": 0.0, "lr_per_256": dt / 4, "batch_scaling": "none", "warmup_epochs": 0.0}
    optim |= {"final_fraction": 1.0, "weight_decay": 4 * setting.eta, "predictor_lr_factor": setting.alpha_p}
    optim |= {"predictor_weight_decay": 4 * setting.eta / setting.alpha_p}
    tau = 1 - (setting.beta or 0.0) * dt
    network = {"target_momentum": tau, "target_momentum_end": tau, "predictor_layers": 1, "predictor_bias": False}
    network |= {"target": "online" if setting.beta is None else "ema"}
    fields = {"epochs": epochs, "batch_size": SAMPLES, "optim": optim, "network": network}
    fields |= {"method": {"normalise": False, **setting.objective}, "monitor": {"log_every_steps": 10}}
    return with_fields(default(setting.method, "digits"), fields)


def module_of(setting: Setting, config: RunConfig[Any], steps_per_epoch: int) -> PretrainModule:
    """The engine's module around a linear encoder without projector, whose views are always the exact ones."""
    k, m = setting.W.shape
    encoder = nn.Linear(m, k, bias=False)
    encoder.weight.data = torch.from_numpy(setting.W).float()
    predictor = None if setting.W_p is None else nn.Linear(k, k, bias=False)
    if predictor is not None:
        predictor.weight.data = torch.from_numpy(setting.W_p).float()
    network = Network(encoder, nn.Sequential(), predictor, widths=(k, k))
    method = method_around(network, config)
    if setting.unscaled:
        assert isinstance(method, JointEmbedding)
        computed = method.objective.predictor
        assert isinstance(computed, ClosedFormPredictor)
        computed.normalise_by, computed.floor = "none", 0.0
    module = PretrainModule(
        config,
        method=method,
        specs=(),
        size=0,
        steps_per_epoch=steps_per_epoch,
        bf16=False,
        pixels=torch.zeros(SAMPLES),
    )
    views = tuple(exact_views(setting.X, setting.X_prime))
    module.make_views = lambda images, augmentation_seed, **_: views
    return module


@dataclass(frozen=True, kw_only=True)
class GivenNetwork(Parts):
    """Parts whose network has been built already."""

    encoder: str = "given"
    size: int = 0
    given: Network
    config: RunConfig[Any]

    def joint_embedding(self, needs: Needs, objective: Callable[[Widths], Objective]) -> JointEmbedding:
        network, optim = self.given, self.config.optim
        has_target = needs.target and self.config.network.target != "online"
        return JointEmbedding(
            needs,
            network,
            objective(Widths(network.representation_width, network.embedding_width, self.views)),
            target=TargetNetwork(network.encoder, network.projector) if has_target else None,
            momentum=partial(momentum_at, self.config.network),
            predictor_group=(optim.predictor_lr_factor, optim.predictor_weight_decay),
        )


def method_around(network: Network, config: RunConfig[Any]) -> Method:
    """The configured method with this network."""
    return config.method.build(GivenNetwork(given=network, config=config))


def train(setting: Setting, directory: Path, *, dt: float, end: float, epochs: int = 20) -> dict[str, np.ndarray]:
    """The engine's loop with its own callbacks; spectra.npz of the run, diagnosed `epochs` times on the way.

    The directory then holds what a run of the command line leaves for a report.
    """
    steps_per_epoch = round(end / dt / epochs)
    config = configuration(setting, dt, end, epochs)
    module = module_of(setting, config, steps_per_epoch)
    if setting.W_p is None:  # the first batch's prediction is to be the theory's too, not a random matrix
        method = module.method
        assert isinstance(method, JointEmbedding)
        batch = Batch(views=module.make_views(torch.zeros(SAMPLES), 0), whole=2)
        method.objective.update(method.loss(batch, Clock()).carry, Clock())
    runfiles.write_json(directory / runfiles.CONFIG, to_dict(config))
    log = MetricsWriter(directory, config.monitor.log_every_steps, SAMPLES)
    monitor = Monitor(directory, torch.zeros(SAMPLES), steps_per_epoch, log, stop=False)
    fit(module, [{"index": torch.arange(SAMPLES)}] * (steps_per_epoch * epochs), [log, monitor])
    return runfiles.read_spectra(directory)
