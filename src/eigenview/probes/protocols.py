"""One record per probe: its name, its title, how it is run and how its number is described. Imports no torch.

Everything that lists probes reads `PROTOCOLS`: the table, the summary, the report, `eigenview probe --protocol`. To add
a probe, write its function in a file here and add its record to `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from eigenview.config import ProbeConfig

if TYPE_CHECKING:
    import numpy as np
    import torch

    from eigenview.probes.labels import Files


class Arrays(NamedTuple):
    """What a probe is given: features and labels."""

    train_x: np.ndarray
    """(N, H)."""
    train_y: np.ndarray
    """int (N,)."""
    test_x: np.ndarray
    """(M, H)."""
    test_y: np.ndarray
    """int (M,)."""
    train_files: np.ndarray | None = None
    """int (N,), which file each train row is a tile or a page of; None: each is a file."""

    @property
    def files(self) -> Files:
        """The train rows as parts of files."""
        from eigenview.probes.labels import Files

        return Files(self.train_y, self.train_files)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A probe: a classifier on frozen features and the way its accuracy is measured."""

    name: str
    """Key of its numbers in probes.json and summary.json."""
    title: str
    """Heading in tables."""
    run: Callable[[Arrays, ProbeConfig, int, int, torch.device], Sequence[np.ndarray]]
    """(arrays, config, number of classes, seed, device) -> for each draw of the labels (one for a probe that uses all)
    the class it gives each test row."""
    describe: Callable[[int, int, ProbeConfig], str]
    """(number of training images, number of test images, config) -> the sentence printed below the table."""
    reason_to_skip: Callable[[Arrays, ProbeConfig, Sequence[str]], str | None]
    """(arrays, config, class names) -> why these labels do not allow this probe; None if it can run."""
    note: Callable[[Arrays, ProbeConfig, Sequence[str]], str | None] = lambda arrays, config, class_names: None
    """(arrays, config, class names) -> a remark on a probe that runs differently than configured, or None."""
    tested: Callable[[Arrays, ProbeConfig], Arrays] = lambda arrays, config: arrays
    """(arrays, config) -> the rows that this probe uses: those of classes it can be fitted on."""
    draws_labels: bool = False
    """Its number is a mean over random draws of the labels, and has a standard deviation."""

    def numbers(self, right: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """From right, bool (R, M), and the test labels: {name: percent of test rows classified correctly,
        name_per_class: mean over the classes of the same}, and with draws {name_std: their standard deviation}."""
        from eigenview.probes.labels import accuracies
        from eigenview.probes.linear import mean_and_deviation

        of_all, of_classes = zip(*(accuracies(each, truth) for each in right), strict=True)
        mean, std = mean_and_deviation(of_all)
        found = {self.name: mean}
        if self.draws_labels:
            found[f"{self.name}_std"] = std
        return found | {f"{self.name}_per_class": mean_and_deviation(of_classes)[0]}

    @property
    def option(self) -> str:
        """The name as a value on the command line."""
        return self.name.replace("_", "-")


def protocol_names(option: str) -> tuple[str, ...]:
    """The names of the probes that `eigenview probe --protocol OPTION` runs."""
    return tuple(p.name for p in PROTOCOLS if option in ("all", p.option))


def _images(num_train: int, num_test: int) -> str:
    return f"frozen features of the last checkpoint, {num_train:,} training and {num_test:,} test images"


def _one_class(arrays: Arrays, config: ProbeConfig, class_names: Sequence[str]) -> str | None:
    from eigenview.probes.labels import class_name

    first = int(arrays.train_y[0])
    if (arrays.train_y != first).any():
        return None
    return f"All probe training images are of class {class_name(first, class_names)}: nothing to classify."


def _run_knn(
    arrays: Arrays, config: ProbeConfig, num_classes: int, seed: int, device: torch.device
) -> Sequence[np.ndarray]:
    from eigenview.probes.knn import knn_predictions

    options = {"k": config.knn_k, "temperature": config.knn_temperature}
    return [knn_predictions(*arrays[:4], **options, num_classes=num_classes, device=device)]  # type: ignore[arg-type]


def _describe_knn(num_train: int, num_test: int, config: ProbeConfig) -> str:
    k = min(config.knn_k, num_train)
    votes = f"votes weighted by exp(cosine / {config.knn_temperature:g})"
    return f"k = {k}, cosine, {votes}; {_images(num_train, num_test)}."


def _note_knn(arrays: Arrays, config: ProbeConfig, class_names: Sequence[str]) -> str | None:
    num_train = len(arrays.train_y)
    if config.knn_k <= num_train:
        return None
    return f"k-NN used all {num_train} training images, fewer than k = {config.knn_k}."


def _run_linear(
    arrays: Arrays, config: ProbeConfig, num_classes: int, seed: int, device: torch.device
) -> Sequence[np.ndarray]:
    from eigenview.probes.linear import linear_predictions

    return [linear_predictions(*arrays[:4], seed=seed, train_files=arrays.train_files)]


def _describe_linear(num_train: int, num_test: int, config: ProbeConfig) -> str:
    from eigenview.probes.linear import MAX_ITERATIONS, STRENGTHS

    grid = ", ".join(f"{s:g}" for s in sorted(STRENGTHS))
    return (
        f"multinomial logistic regression, standardised features, L2 strength of {grid} chosen on a third of the "
        f"training images, L-BFGS of at most {MAX_ITERATIONS} iterations; {_images(num_train, num_test)}."
    )


def _run_few_labels(
    arrays: Arrays, config: ProbeConfig, num_classes: int, seed: int, device: torch.device
) -> Sequence[np.ndarray]:
    from eigenview.probes.linear import few_label_predictions

    options = {"labels_per_class": config.labels_per_class, "draws": config.few_label_draws, "seed": seed}
    return few_label_predictions(*arrays[:4], **options, train_files=arrays.train_files)  # type: ignore[arg-type]


def _rows_of_rich_classes(arrays: Arrays, config: ProbeConfig) -> Arrays:
    import numpy as np

    from eigenview.probes.labels import rich_classes

    train_x, train_y, test_x, test_y, files = arrays
    rich = rich_classes(arrays.files.y, config.labels_per_class)
    fitted, tested = np.isin(train_y, rich), np.isin(test_y, rich)
    if fitted.all() and tested.all():
        return arrays
    kept = None if files is None else files[fitted]
    return Arrays(train_x[fitted], train_y[fitted], test_x[tested], test_y[tested], kept)


def _describe_few_labels(num_train: int, num_test: int, config: ProbeConfig) -> str:
    from eigenview.probes.linear import FEW_STRENGTH

    return (
        f"the same with {config.labels_per_class} labels per class, L2 strength {FEW_STRENGTH:g}, mean and standard "
        f"deviation of {config.few_label_draws} draws of the labels; {_images(num_train, num_test)}."
    )


def _too_few_labels(arrays: Arrays, config: ProbeConfig, class_names: Sequence[str]) -> str | None:
    from eigenview.probes.labels import label_shortage, rich_classes

    if one_class := _one_class(arrays, config, class_names):
        return one_class
    y = arrays.files.y
    if len(rich_classes(y, config.labels_per_class)) >= 2:
        return None  # classes with fewer images are left out
    return f"{LINEAR_FEW.title} left out: {label_shortage(y, config.labels_per_class, class_names)}"


def _of_few_labels(arrays: Arrays, config: ProbeConfig, class_names: Sequence[str]) -> str | None:
    import numpy as np

    from eigenview.errors import listed
    from eigenview.probes.labels import class_name, rich_classes

    y = arrays.files.y
    rich = rich_classes(y, config.labels_per_class)
    labels, counts = np.unique(y, return_counts=True)
    poor = [(label, count) for label, count in zip(labels, counts, strict=True) if label not in rich]
    if len(rich) < 2:
        return None
    notes = []
    if arrays.train_files is not None:
        notes.append(
            f"{LINEAR_FEW.title}: {config.labels_per_class} files of each class, each with all of its tiles or pages."
        )
    if poor:
        shown = [f"{class_name(int(label), class_names)} with {count}" for label, count in poor]
        notes.append(
            f"{LINEAR_FEW.title}: without the classes of fewer than {config.labels_per_class} training images, neither "
            f"fitted nor tested: {listed(shown)}."
        )
    return " ".join(notes) or None


KNN = Protocol(
    name="knn",
    title="k-NN",
    run=_run_knn,
    describe=_describe_knn,
    reason_to_skip=_one_class,
    note=_note_knn,
)
LINEAR = Protocol(
    name="linear",
    title="linear",
    run=_run_linear,
    describe=_describe_linear,
    reason_to_skip=_one_class,
)
LINEAR_FEW = Protocol(
    name="linear_few",
    title="linear, few labels",
    run=_run_few_labels,
    describe=_describe_few_labels,
    reason_to_skip=_too_few_labels,
    note=_of_few_labels,
    tested=_rows_of_rich_classes,
    draws_labels=True,
)
PROTOCOLS = (KNN, LINEAR, LINEAR_FEW)
"""All probes, in the order of the columns of every table."""
TITLES = {p.name: p.title for p in PROTOCOLS}
"""Name -> heading."""

if TYPE_CHECKING:
    ProtocolOption: TypeAlias = str
else:  # tyro shows the choices and refuses others
    ProtocolOption = Literal[("all", *(p.option for p in PROTOCOLS))]
