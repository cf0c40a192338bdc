"""`RunConfig`: every option of a run in one frozen dataclass, free of torch so that help is quick.

The sentence below each field is its help text on the command line. Values are checked when a config is made; an error
names the field, the value and what is allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar, get_args

from tyro.conf import Positional

from eigenview.config.augment import AugmentConfig
from eigenview.config.reading import Pages, Reading
from eigenview.config.sections import (
    MOST_EPOCHS,
    LoaderConfig,
    MonitorConfig,
    NetworkConfig,
    OptimConfig,
    ProbeConfig,
)
from eigenview.config.types import check_types
from eigenview.errors import UserError, require
from eigenview.launched import launched_size
from eigenview.records import MethodConfig

Options = TypeVar("Options", bound=MethodConfig)
BatchNorm = Literal["auto", "keep", "follow"]
LARGEST_SIDE = 4096
"""Largest side of a view in pixels. A typing error beyond it would take all memory before an estimate can be made."""
OF_WEIGHTS = 0.1
"""Learning rate of an encoder that starts from weights, as a multiple of the heads' (experiment adapt)."""
MOST_VIEWS, MOST_DEVICES = 256, 4096
"""Of an image, and of a run: the same holds for these."""


def default_method() -> MethodConfig:
    """VICReg, with its published weights."""
    from eigenview.methods import config_class

    return config_class("vicreg")()


@dataclass(frozen=True, kw_only=True)
class RunConfig(Generic[Options]):
    """One pretraining run. Everyday options are at the top level, everything else below a dotted name."""

    data: Positional[str] = "digits"
    """digits (built in), a folder of images, a list of files and folders (list.txt, list.csv) or a pattern in quotes
    ('photos/**/*.jpg'), a .npy or .npz file of uint8 images, tar shards, a pack, hf:FOLDER, or a torchvision data set
    as it lies on disk (eigenview list datasets)."""
    probe_data: str | None = None
    """Labelled images for the probes: a folder with train/ and test/, or one set that is split. Default: --data."""
    labels: str = "auto"
    """Labels of --data, for probes alone. auto: class subfolders, or the labels of the file. none: not used, for
    subfolders that are no classes, such as dates or batches; --probe-data can still give some. FILE.csv: the columns
    path, label and, if wanted, split (train, test, val); it may label the images of --probe-data too."""
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
    whose mean over parts has the gradient of the whole batch, exactly (byol, simsiam, directpred, directset,
    directcopy, isoloss) or on average (unbiased-vicreg with --method.hinge dual or square)."""
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
    encoder: str = "auto"
    """conv-tiny, conv-small, conv-medium, or timm:NAME, torchvision:NAME. auto: the network of --weights; without them
    conv-tiny for the built-in digits, else conv-small."""
    weights: str | None = None
    """Weights to start from: a file (.safetensors, or a state dict as .pth, .pt, .bin), a folder of timm, a finished
    run, timm:NAME, or hf:OWNER/NAME. Their mean, deviation and size of images are taken over."""
    train: str = "all"
    """What of the encoder is trained: all, norms, last:N (its last N blocks), lora:R (adapters of rank R on the linear
    layers, for vision transformers; needs eigenview[lora]), head (none of it)."""
    batch_norm: BatchNorm = "auto"
    """Whether the encoder's batch norms keep the running averages of the weights, and normalise by them in training
    too, or follow the new images. auto: keep with --weights, else follow."""
    freeze_epochs: float = 0.0
    """Epochs at the start in which only the heads are trained."""
    second_encoder: str | None = None
    """Another encoder, with its own projector, for every other view (implies --network.no-shared-weights)."""
    image_size: int | None = None
    """Side of the views in pixels. Default: chosen from the data, and the reason is printed."""
    range: str = "auto"
    """The values that become black and white: auto (of images with more than 8 bits the 0.1 and 99.9 % of their values,
    decided once for the data set; 8 bits stay as they are), full (of the file's type), window (each DICOM's own),
    LOW,HIGH or LOW%,HIGH%."""
    channels: int = 3
    """Channels of an image. Grey becomes three equal ones unless this is 1; other numbers than 1, 3 and 4 come from
    arrays and from pages (--pages channels)."""
    pages: Pages = "first"
    """Of a TIFF with several pages: the first is used, each page is an image, or each is a channel. Frames of a DICOM
    are images, unless this is channels."""
    fit: str = "crop"
    """How an image becomes a square: crop (the centred square), pad (the whole, on the median colour of its border),
    squash (the whole, resized to a square), or tiles:N (as many squares along the longer side as cover it, up to N)."""
    seed: int = 0
    """Seed of everything random."""
    devices: int = field(default_factory=launched_size)
    """Processes (GPUs, or CPU processes). Default: as many as torchrun or SLURM started, else 1."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: a CUDA GPU if there is one, else the CPU. mps: Apple's GPU, untested."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the network; losses are always computed in float32 or better."""
    augmentation: str = "auto"
    """Where views start from, before --augment.*: a kind of image (natural, microscopy, medical, satellite, document),
    which is the method's own preset with what that kind changes about it, or one preset whatever the method (simclr,
    digits, none, ...): eigenview list augmentations. auto: digits for the built-in digits, else natural."""
    compile_augmentation: bool = False
    """Compile the augmentation (torch.compile; on a GPU replayed as a CUDA graph): minutes before the first step, less
    launching after it. Pays on a GPU; on a CPU hardly."""
    augment: AugmentConfig = AugmentConfig()
    network: NetworkConfig = NetworkConfig()
    optim: OptimConfig = OptimConfig()
    loader: LoaderConfig = LoaderConfig()
    monitor: MonitorConfig = MonitorConfig()
    probe: ProbeConfig = ProbeConfig()

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("data", "probe_data", "labels", "encoder", "second_encoder", "augmentation", "weights"):
            value = getattr(self, name)
            option = name.replace("_", "-")
            is_empty = value is not None and not value.strip() and name != "data"  # of DATA the sources say more
            require(not is_empty, f"--{option}", value, "a name that is not empty")
        require(self.batch_norm in get_args(BatchNorm), "--batch-norm", self.batch_norm, "auto, keep, follow")
        allowed = "auto or follow without --weights, as random weights have no averages"
        require(self.batch_norm != "keep" or self.weights is not None, "--batch-norm", self.batch_norm, allowed)
        is_counted = re.fullmatch(r"(last|lora):[1-9]\d{0,3}", self.train) is not None
        allowed = "all, norms, last:N, lora:R, head"
        require(is_counted or self.train in ("all", "norms", "head"), "--train", self.train, allowed)
        allowed = f"0 or more, up to {MOST_EPOCHS:,}"
        require(0 <= self.freeze_epochs <= MOST_EPOCHS, "--freeze-epochs", self.freeze_epochs, allowed)
        require(0 < self.data_fraction <= 1, "--data-fraction", self.data_fraction, "above 0, up to 1")
        require(1 <= self.epochs <= MOST_EPOCHS, "--epochs", self.epochs, "1 or more, up to 1,000,000")
        require(2 <= self.batch_size <= 2**24, "--batch-size", self.batch_size, "2 or more, up to 16,777,216")
        views = f"2 or more, up to {MOST_VIEWS}: joint embedding compares views of one image"
        require(2 <= self.views <= MOST_VIEWS, "--views", self.views, views)
        self.augment.require_views(self.views)
        allowed = f"0 or more, up to {MOST_VIEWS}"
        require(0 <= self.local_views <= MOST_VIEWS, "--local-views", self.local_views, allowed)
        has_local = self.local_views > 0
        require(
            self.local_size is None or (has_local and 4 <= self.local_size <= LARGEST_SIDE),
            "--local-size",
            self.local_size,
            f"4 to {LARGEST_SIDE}, with --local-views above 0",
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
        self.reading()  # refuses a range, a number of channels, a word for pages or a fit that is not allowed
        require(1 <= self.devices <= MOST_DEVICES, "--devices", self.devices, f"1 or more, up to {MOST_DEVICES}")
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

    @property
    def keeps_statistics(self) -> bool:
        """Whether batch norms of the encoder keep their running averages."""
        return self.batch_norm == "keep" or (self.batch_norm == "auto" and self.weights is not None)

    @property
    def encoder_lr_factor(self) -> float:
        """Learning rate of the encoder as a multiple of the heads'."""
        given = self.optim.encoder_lr_factor
        return given if given is not None else 1.0 if self.weights is None else OF_WEIGHTS

    def decided(self) -> RunConfig[Options]:
        """The same run with values for options whose default depends on others; with weights `encoder` may stay auto,
        since they name it."""
        own = "conv-tiny" if self.data == "digits" else "conv-small"
        encoder = own if self.encoder == "auto" and self.weights is None else self.encoder
        return replace(self, encoder=encoder, optim=replace(self.optim, encoder_lr_factor=self.encoder_lr_factor))

    def reading(self) -> Reading:
        """How pixels are made from files, before a range is decided."""
        return Reading(range=self.range, channels=self.channels, pages=self.pages, fit=self.fit)
