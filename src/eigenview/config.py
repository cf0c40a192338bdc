"""Every option of a run: frozen keyword-only dataclasses, free of torch so that help is quick.

The sentence below each field is its help text on the command line. Values are checked when a config is made; an error
names the field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from tyro.conf import Positional

from eigenview.config_names import renamed, upgrade
from eigenview.config_types import check_types
from eigenview.errors import UserError, require
from eigenview.records import MethodConfig

Options = TypeVar("Options", bound=MethodConfig)
LARGEST_SIDE = 4096
"""Of views in pixels. A slip of the keyboard beyond it would take all memory before an estimate can be made."""


@dataclass(frozen=True, kw_only=True)
class NoMethod(MethodConfig):
    """Takes the place of a method's options until the method is known."""


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
    """A norm without scale and offset after the projector's last layer too (as SimCLR and SimSiam): layer norm where
    head_norm is layer, else batch norm."""
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
    """A bias in the predictor's last layer. Off: none."""
    predictor_symmetric: bool = False
    """Keep a linear predictor's matrix symmetric; with two layers the second is the first transposed."""
    target: Literal["auto", "ema", "online"] = "auto"
    """What is predicted: a moving average of the network (ema) or the network itself (online). auto: ema for methods
    published with one."""
    target_momentum: float = 0.99
    """Fraction of the target network kept at each step, at the start (tau)."""
    target_momentum_end: float = 1.0
    """The same at the end of training."""
    target_schedule: Literal["cosine", "linear"] = "cosine"
    """How it goes from the one to the other."""
    shared_weights: bool = True
    """One network for all views. Off: two of the same kind, each trained on every other view."""

    def __post_init__(self) -> None:
        for name, allowed in (("head_norm", ("batch", "layer", "none")), ("encoder_norm", ("batch", "group", "layer"))):
            require(getattr(self, name) in allowed, f"network.{name}", getattr(self, name), ", ".join(allowed))
        require(self.projector_hidden >= 1, "network.projector_hidden", self.projector_hidden, "1 or more")
        require(self.projector_width >= 2, "network.projector_width", self.projector_width, "2 or more")
        require(0 <= self.projector_layers <= 6, "network.projector_layers", self.projector_layers, "0 to 6")
        require(self.predictor_hidden >= 1, "network.predictor_hidden", self.predictor_hidden, "1 or more")
        require(0 <= self.predictor_layers <= 2, "network.predictor_layers", self.predictor_layers, "0, 1, 2")
        for name in ("target_momentum", "target_momentum_end"):
            require(0 <= getattr(self, name) <= 1, f"network.{name}", getattr(self, name), "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and schedule. The learning rate is given per 256 samples of global batch."""

    name: Literal["adamw", "sgd", "lars", "lars-clip"] = "adamw"
    """lars: as VICReg and Barlow Twins publish it; lars-clip: as solo-learn (trust ratio clipped by the rate;
    its settings for CIFAR have trust_coefficient 0.02)."""
    lr_per_256: float = 2e-3
    """Peak learning rate at a global batch of 256; scaled with the batch as `batch_scaling` says."""
    batch_scaling: Literal["linear", "sqrt", "none"] = "linear"
    """How the learning rate follows the global batch: linear is usual for SGD and LARS, sqrt for Adam."""
    predictor_lr_factor: float = 1.0
    """Learning rate of a learned predictor as a multiple of everything else's (Tian's alpha_p): a predictor that keeps
    up with the network lowers the risk of collapse."""
    predictor_weight_decay: float | None = None
    """Decay of the predictor's weight matrices; default: as all others."""
    weight_decay: float = 1e-4
    """Decay of weight matrices; biases and norms are never decayed."""
    momentum: float = 0.9
    """Momentum of sgd and lars."""
    trust_coefficient: float = 0.001
    """eta of LARS."""
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
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.momentum < 1, "optim.momentum", self.momentum, "0 up to below 1")
        require(self.trust_coefficient > 0, "optim.trust_coefficient", self.trust_coefficient, "above 0")
        require(self.warmup_epochs >= 0, "optim.warmup_epochs", self.warmup_epochs, "0 or more")
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
        require(self.workers >= 0, "loader.workers", self.workers, "0 or more")
        require(self.cache_gb >= 0, "loader.cache_gb", self.cache_gb, "0 or more")


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Diagnostics on a fixed held-out batch, checkpoints and logging during training."""

    images: int = 512
    """Images in the fixed held-out batch."""
    every_epochs: float = 1.0
    """Epochs between two diagnoses."""
    checkpoint_minutes: float = 2.0
    """Longest time between two checkpoints; one is also written after each epoch."""
    log_every_steps: int = 10
    """Steps between two rows of metrics.jsonl."""
    stop_on_collapse: bool = False
    """End the run with exit code 3 once the verdict is a collapse in two diagnoses running."""

    def __post_init__(self) -> None:
        require(self.images >= 8, "monitor.images", self.images, "8 or more")
        require(self.every_epochs > 0, "monitor.every_epochs", self.every_epochs, "above 0")
        require(self.checkpoint_minutes > 0, "monitor.checkpoint_minutes", self.checkpoint_minutes, "above 0")
        require(self.log_every_steps >= 1, "monitor.log_every_steps", self.log_every_steps, "1 or more")


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Probes on frozen features of the last checkpoint."""

    images: int | None = None
    """Most labelled images to fit probes on, drawn with the seed; default: all."""
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
        require(self.knn_k >= 1, "probe.knn_k", self.knn_k, "1 or more")
        require(self.knn_temperature > 0, "probe.knn_temperature", self.knn_temperature, "above 0")
        require(self.labels_per_class >= 1, "probe.labels_per_class", self.labels_per_class, "1 or more")
        require(self.few_label_draws >= 1, "probe.few_label_draws", self.few_label_draws, "1 or more")


def default_method() -> MethodConfig:
    """VICReg, with its published weights."""
    from eigenview.methods import config_class

    return config_class("vicreg")()


@dataclass(frozen=True, kw_only=True)
class RunConfig(Generic[Options]):
    """One pretraining run. Everyday options are at the top level, everything else below a dotted name."""

    data: Positional[str] = "digits"
    """digits (built in), a folder of images, a .npy/.npz uint8 array, tar shards, a pack, hf:FOLDER, or a
    torchvision data set as it lies on disk (eigenview list datasets)."""
    probe_data: str | None = None
    """Labelled images for the probes: a folder with train/ and test/, or one set that is split. Default: --data."""
    data_fraction: float = 1.0
    """Share of the training images to train on, drawn with the seed."""
    stratified: bool = False
    """Draw that share from each class alike; needs labels, which are used for nothing else."""
    method: Options = field(default_factory=default_method)  # type: ignore[assignment]
    """Options of the method."""
    epochs: int = 40
    """Passes over the training images."""
    batch_size: int = 256
    """Images per step over all devices together."""
    grad_cache_chunk: int | None = None
    """Images that the encoder of a process takes at once. The gradient stays that of the whole batch, for about a third
    more time and a fraction of the memory; the encoder's batch norm then sees one chunk at a time."""
    grad_accum_steps: int = 1
    """Equal parts of a batch, on which the loss is computed one after another before one optimiser step: for losses
    whose mean over parts estimates the same gradient (unbiased-vicreg, byol, simsiam)."""
    grad_accum_coupled: bool = False
    """Allow --grad-accum-steps with any method: the mean of the parts' losses, which changes the loss for other
    methods."""
    views: int = 2
    """Augmented views of each image, V."""
    local_views: int = 0
    """Small crops of each image in addition to the views, encoded at their own size. They predict the views and are
    compared with them and each other, but they are not predicted, and no target network sees them."""
    local_size: int | None = None
    """Side of the small crops in pixels; default: half of the views'."""
    local_scale: tuple[float, float] = (0.05, 0.4)
    """Smallest and largest share of the image's area that a small crop covers."""
    encoder: str = "conv-small"
    """conv-tiny, conv-small, conv-medium, or timm:NAME, torchvision:NAME."""
    second_encoder: str | None = None
    """Another encoder, with its own projector, for every other view (implies --network.no-shared-weights)."""
    image_size: int | None = None
    """Side of the views in pixels. Default: chosen from the data, and the reason is printed."""
    seed: int = 0
    """Seed of everything random."""
    devices: int = 1
    """Processes (GPUs, or CPU processes) on this machine."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: a CUDA GPU if there is one, else the CPU. mps: Apple's GPU, untested."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the network; losses are always computed in float32 or better."""
    augmentation: str = "auto"
    """Preset: eigenview list augmentations. auto: digits for the built-in digits, else the method's own."""
    compile_augmentation: bool = False
    """Compile the augmentation (torch.compile; on a GPU replayed as a CUDA graph): minutes before the first step, less
    launching after it. Pays on a GPU; on a CPU hardly."""
    network: NetworkConfig = NetworkConfig()
    optim: OptimConfig = OptimConfig()
    loader: LoaderConfig = LoaderConfig()
    monitor: MonitorConfig = MonitorConfig()
    probe: ProbeConfig = ProbeConfig()

    def __post_init__(self) -> None:
        check_types(self)
        require(0 < self.data_fraction <= 1, "--data-fraction", self.data_fraction, "above 0, up to 1")
        require(self.epochs >= 1, "--epochs", self.epochs, "1 or more")
        require(self.batch_size >= 2, "--batch-size", self.batch_size, "2 or more")
        require(self.views >= 2, "--views", self.views, "2 or more: joint embedding compares views of one image")
        require(self.local_views >= 0, "--local-views", self.local_views, "0 or more")
        has_local = self.local_views > 0
        require(
            self.local_size is None or (has_local and self.local_size >= 4),
            "--local-size",
            self.local_size,
            "4 or more, with --local-views above 0",
        )
        low, high = self.local_scale
        require(
            0 < low <= high <= 1, "--local-scale", self.local_scale, "two shares above 0 up to 1, the smaller first"
        )
        require(
            self.image_size is None or 8 <= self.image_size <= LARGEST_SIDE,
            "--image-size",
            self.image_size,
            f"8 to {LARGEST_SIDE}",
        )
        require(self.devices >= 1, "--devices", self.devices, "1 or more")
        require(0 <= self.seed < 2**63, "--seed", self.seed, "0 up to below 2 to the 63rd")
        share = self.batch_size // self.devices
        require(
            self.grad_accum_steps >= 1 and share % self.grad_accum_steps == 0,
            "--grad-accum-steps",
            self.grad_accum_steps,
            f"a divisor of the {share} images of each process and step",
        )
        share //= self.grad_accum_steps
        require(
            self.grad_cache_chunk is None or (self.grad_cache_chunk >= 1 and share % self.grad_cache_chunk == 0),
            "--grad-cache-chunk",
            self.grad_cache_chunk,
            f"a divisor of the {share} images of each process and {'step' if self.grad_accum_steps == 1 else 'part'}",
        )
        if self.batch_size % self.devices:
            raise UserError(
                f"--batch-size {self.batch_size} does not divide among --devices {self.devices}; "
                f"take a multiple of {self.devices}."
            )


def method_name(config: MethodConfig) -> str:
    """The name under which `--method` finds a config's class: its card's, or its module's if that is not ours."""
    module = type(config).__module__.removesuffix(".declared")
    return config.card.name if module.startswith("eigenview.methods.") else module


def to_dict(config: RunConfig[Any]) -> dict[str, Any]:
    """A config as plain JSON-ready values; the method's options are beside its name."""
    values = dataclasses.asdict(config)
    return values | {"method": {"name": method_name(config.method), **values["method"]}}


def with_fields(config: Any, fields: Mapping[str, Any], where: str = "") -> Any:
    """`config` with some fields replaced; a nested dict goes into a nested config."""
    known = {f.name for f in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    for name, value in fields.items():
        require(name in known, f"{where}{name}", value, f"the fields {', '.join(sorted(known))}", renamed(where, name))
        nested = getattr(config, name)
        into = isinstance(value, Mapping) and dataclasses.is_dataclass(nested)
        changes[name] = with_fields(nested, value, f"{where}{name}.") if into else value
    return dataclasses.replace(config, **changes)


def changed_fields(config: Any, default: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of the fields in which `config` differs from `default`."""
    changed: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        ours, theirs = getattr(config, f.name), getattr(default, f.name, None)
        if dataclasses.is_dataclass(ours) and type(ours) is type(theirs):
            changed |= changed_fields(ours, theirs, f"{prefix}{f.name}.")
        elif ours != theirs:
            changed[prefix + f.name] = dataclasses.asdict(ours) if dataclasses.is_dataclass(ours) else ours  # type: ignore[arg-type]
    return changed


def from_dict(values: dict[str, Any], method_type: type[MethodConfig]) -> RunConfig[Any]:
    """The RunConfig written by `to_dict`, also by an earlier version (`config_names.upgrade`).

    Raises: UserError for an unknown field, with its name.
    """

    def build(cls: type, given: dict[str, Any], where: str) -> Any:
        known = {f.name for f in dataclasses.fields(cls)}
        for name in given:
            require(name in known, f"{where}{name}", given[name], f"fields {', '.join(sorted(known))}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})

    parts = {"network": NetworkConfig, "optim": OptimConfig, "loader": LoaderConfig, "monitor": MonitorConfig}
    parts |= {"probe": ProbeConfig, "method": method_type}
    values = upgrade(values)
    values["method"] = {name: value for name, value in values["method"].items() if name != "name"}
    made = {n: build(parts[n], v, f"{n}.") if n in parts else v for n, v in values.items()}
    return build(RunConfig, made, "")
