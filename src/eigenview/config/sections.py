"""The nested parts of a run's configuration: network, optimiser, loader, monitor, probes. Free of torch.

The sentence below each field is its help text on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eigenview.errors import require

WIDEST = 2**17
"""Widest layer of a head: a covariance matrix of this width takes 69 GB."""
MOST_EPOCHS = 10**6
"""Of a run, of its warm-up and between two diagnoses."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Heads on top of the encoder, and the target network."""

    stem: Literal["auto", "small", "standard"] = "auto"
    """First layers of a timm or torchvision ResNet: small = 3x3 stride 1 without max-pooling, for images up to 64 px;
    standard = as published. auto takes small up to 64 px."""
    projector_hidden: int = 512
    """Width of the projector's hidden layers."""
    projector_width: int = 512
    """Width D of the embedding."""
    projector_layers: int = 2
    """Linear layers of the projector; 0 for no projector."""
    projector_last_norm: bool = False
    """A norm without scale and offset after the projector's last layer too (as SimCLR and SimSiam): layer norm with
    --network.head-norm layer, otherwise batch norm."""
    head_norm: Literal["batch", "layer", "none"] = "batch"
    """Norm in the hidden layers of projector and predictor. Batch norm makes each image's embedding depend on the rest
    of the batch; layer norm does not."""
    encoder_norm: Literal["batch", "group", "layer"] = "batch"
    """Norm of a conv net's or a ResNet's layers: group (16 channels) and layer look at one image alone."""
    predictor_layers: int = 2
    """Linear layers of a learned predictor: 2 with batch norm and ReLU between, 1, or 0 for none (p is z)."""
    predictor_hidden: int = 512
    """Width of the predictor's hidden layer, for methods with a learned predictor."""
    predictor_bias: bool = True
    """Whether the predictor's last layer has a bias."""
    predictor_symmetric: bool = False
    """Keep a linear predictor's matrix symmetric; with two layers the second is the first transposed."""
    target: Literal["auto", "ema", "online"] = "auto"
    """What is predicted: a moving average of the network (ema) or the network itself (online). auto: ema for methods
    published with one."""
    target_momentum: float = 0.99
    """Fraction of the target network that each step keeps, at the start of training (tau)."""
    target_momentum_end: float = 1.0
    """Fraction of the target network that each step keeps, at the end of training."""
    target_schedule: Literal["cosine", "linear"] = "cosine"
    """How the fraction that the target network keeps changes from its first value to its last."""
    shared_weights: bool = True
    """Whether one network takes all views; otherwise two of the same kind are trained, each on every other view."""

    def __post_init__(self) -> None:
        for name, allowed in (("head_norm", ("batch", "layer", "none")), ("encoder_norm", ("batch", "group", "layer"))):
            require(getattr(self, name) in allowed, f"network.{name}", getattr(self, name), ", ".join(allowed))
        for name, least in (("projector_hidden", 1), ("projector_width", 2), ("predictor_hidden", 1)):
            width = getattr(self, name)
            require(least <= width <= WIDEST, f"network.{name}", width, f"{least} or more, up to {WIDEST:,}")
        require(0 <= self.projector_layers <= 6, "network.projector_layers", self.projector_layers, "0 to 6")
        require(0 <= self.predictor_layers <= 2, "network.predictor_layers", self.predictor_layers, "0, 1, 2")
        for name in ("target_momentum", "target_momentum_end"):
            require(0 <= getattr(self, name) <= 1, f"network.{name}", getattr(self, name), "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and schedule. The learning rate is given per 256 samples of global batch."""

    name: Literal["adamw", "sgd", "lars", "lars-clip"] = "adamw"
    """lars: as VICReg and Barlow Twins publish it; lars-clip: as solo-learn (trust ratio clipped by the rate;
    its settings for CIFAR have --optim.trust-coefficient 0.02)."""
    lr_per_256: float = 2e-3
    """Peak learning rate at a global batch of 256; --optim.batch-scaling scales it with the batch."""
    batch_scaling: Literal["linear", "sqrt", "none"] = "linear"
    """How the learning rate follows the global batch: linear is usual for SGD and LARS, sqrt for Adam."""
    predictor_lr_factor: float = 1.0
    """Learning rate of a learned predictor as a multiple of everything else's (Tian's alpha_p): a predictor that keeps
    up with the network lowers the risk of collapse."""
    predictor_weight_decay: float | None = None
    """Decay of the predictor's weight matrices; default: as all others."""
    encoder_lr_factor: float | None = None
    """Learning rate of the encoder as a multiple of the heads': below 1 keeps weights it started from closer. Default:
    0.1 with --weights, else 1."""
    layer_decay: float = 1.0
    """Learning rate of each block of the encoder as a multiple of that of the block after it: 0.65 to 0.9 is usual for
    vision transformers that start from weights."""
    weight_decay: float = 1e-4
    """Decay of the weights of layers. Never decayed: biases, norms, class tokens, position embeddings, tables of
    relative positions, layer scales, and what a timm network excludes itself."""
    momentum: float = 0.9
    """Momentum of sgd and lars."""
    trust_coefficient: float = 0.001
    """eta of LARS: a step's length as a fraction of its weights' length, at a learning rate of 1."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up from 0, at most half of the run."""
    final_fraction: float = 0.0
    """Learning rate at the end of the cosine, as a fraction of the peak."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all parameters together; a larger gradient is scaled down to it. Default: no
    limit."""

    def __post_init__(self) -> None:
        require(self.lr_per_256 > 0, "optim.lr_per_256", self.lr_per_256, "above 0")
        require(self.predictor_lr_factor > 0, "optim.predictor_lr_factor", self.predictor_lr_factor, "above 0")
        if self.predictor_weight_decay is not None:
            require(
                self.predictor_weight_decay >= 0,
                "optim.predictor_weight_decay",
                self.predictor_weight_decay,
                "0 or more",
            )
        factor = self.encoder_lr_factor
        require(factor is None or 0 < factor <= 1000, "optim.encoder_lr_factor", factor, "above 0, up to 1000")
        require(0 < self.layer_decay <= 1, "optim.layer_decay", self.layer_decay, "above 0, up to 1")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "0 up to below 1")
        require(self.trust_coefficient > 0, "optim.trust_coefficient", self.trust_coefficient, "above 0")
        least, most = "0 or more", f"up to {MOST_EPOCHS:,}"
        require(0 <= self.warmup_epochs <= MOST_EPOCHS, "optim.warmup_epochs", self.warmup_epochs, f"{least}, {most}")
        require(0 <= self.final_fraction <= 1, "optim.final_fraction", self.final_fraction, "between 0 and 1")
        require(self.clip_norm is None or self.clip_norm > 0, "optim.clip_norm", self.clip_norm, "above 0")


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How images reach the device."""

    workers: int = 2
    """Processes that decode images when the set is too large to be cached."""
    cache_gb: float = 4.0
    """Sets up to this size, decoded and resized, are cached once as a memory-mapped uint8 array; 0 never caches."""
    strict: bool = False
    """Make the first unreadable image an error instead of skipping and listing it."""

    def __post_init__(self) -> None:
        require(0 <= self.workers <= 1024, "loader.workers", self.workers, "0 or more, up to 1024")
        require(self.cache_gb >= 0, "loader.cache_gb", self.cache_gb, "0 or more")


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Diagnostics on a fixed held-out batch, checkpoints and logging during training."""

    images: int = 512
    """Images in the fixed held-out batch."""
    every_epochs: float = 1.0
    """Epochs between two diagnoses, one of which is made at the start and one at the end."""
    diagnosis_share: float = 0.01
    """Largest share of the time for diagnoses, if all take over 15 seconds together: those beyond it are left out, and
    the run says so. 1: none is. With --monitor.stop-on-collapse none is either."""
    checkpoint_minutes: float = 2.0
    """Longest time between two checkpoints; one is also written after each epoch. Large ones are written less often, so
    that they take at most 1 % of the time."""
    log_every_steps: int = 10
    """Steps between two rows of metrics.jsonl."""
    stop_on_collapse: bool = False
    """End the run with exit code 3 once the verdict is a collapse in two diagnoses running."""

    def __post_init__(self) -> None:
        require(8 <= self.images <= 10**6, "monitor.images", self.images, "8 or more, up to 1,000,000")
        allowed = f"above 0, up to {MOST_EPOCHS:,}"
        require(0 < self.every_epochs <= MOST_EPOCHS, "monitor.every_epochs", self.every_epochs, allowed)
        require(0 < self.diagnosis_share <= 1, "monitor.diagnosis_share", self.diagnosis_share, "above 0, up to 1")
        minutes = self.checkpoint_minutes
        require(0 < minutes <= 10**6, "monitor.checkpoint_minutes", minutes, "above 0, up to 1,000,000")
        require(self.log_every_steps >= 1, "monitor.log_every_steps", self.log_every_steps, "1 or more")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Probes on frozen features of the last checkpoint."""

    images: int | None = None
    """Most labelled images to fit probes on, drawn with the seed; default: all."""
    label_fraction: float = 1.0
    """Share of the training labels that all probes may use, of each class alike (at least one), drawn with the
    seed."""
    knn_k: int = 20
    """Neighbours of the k-NN vote."""
    knn_temperature: float = 0.07
    """Temperature of the k-NN vote's weights exp(cosine / temperature)."""
    labels_per_class: int = 10
    """Labels per class of the few-label probe."""
    few_label_draws: int = 5
    """Random draws of those labels; the mean is reported."""

    def __post_init__(self) -> None:
        require(self.images is None or self.images >= 2, "probe.images", self.images, "2 or more")
        require(0 < self.label_fraction <= 1, "probe.label_fraction", self.label_fraction, "above 0, up to 1")
        require(self.knn_k >= 1, "probe.knn_k", self.knn_k, "1 or more")
        require(self.knn_temperature > 0, "probe.knn_temperature", self.knn_temperature, "above 0")
        require(self.labels_per_class >= 1, "probe.labels_per_class", self.labels_per_class, "1 or more")
        draws = self.few_label_draws
        require(1 <= draws <= 10**4, "probe.few_label_draws", draws, "1 or more, up to 10,000")
