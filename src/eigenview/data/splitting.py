"""Labelled images as a training and a test set: an own split made, or two given sets brought to the same classes."""

from __future__ import annotations

import dataclasses

import numpy as np

from eigenview.config import ProbeConfig
from eigenview.data.images import ImageSet
from eigenview.errors import UnusableLabels, listed

TEST_FRACTION = 0.2


def stratified_split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (ascending, int64) of a training and a test set, 80 to 20 within each class.

    A class of n images gives round(n / 5) of them to the test set, but at least one and at most n - 1; a class of a
    single image cannot be in both sets and is in neither. The draw is a function of `labels` and `seed`.
    """
    generator = np.random.default_rng(seed)
    train: list[np.ndarray] = []
    test: list[np.ndarray] = []
    for of_class in rows_by_class(labels):
        rows = generator.permutation(of_class)
        if len(rows) >= 2:
            tested = min(max(1, round(TEST_FRACTION * len(rows))), len(rows) - 1)
            test.append(rows[:tested])
            train.append(rows[tested:])
    none = np.empty(0, np.int64)
    return np.sort(np.concatenate([none, *train])), np.sort(np.concatenate([none, *test]))


def rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    """The rows of each label, ascending; labels ascending. One sort, however many classes there are."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(labels) else []


def subsample(images: ImageSet, most: int | None, seed: int) -> ImageSet:
    """At most so many of the images to fit probes on, a function of the number of images and the seed.

    Rows are drawn one by one, tiles and pages too: of as many rows, those of more files show more.
    """
    if most is None or most >= len(images):
        return images
    return images.take(np.sort(np.random.default_rng((seed, 3)).permutation(len(images))[:most]))


def fitting_images(images: ImageSet, config: ProbeConfig, seed: int) -> ImageSet:
    """The labelled training images that probes are fitted on, by label_fraction and then by images; a note says so.

    Of a class of n images round(n label_fraction) are drawn, at least one.
    """
    if config.label_fraction == 1 or images.labels is None:
        return subsample(images, config.images, seed)
    draw = np.random.default_rng((seed, 5))
    first, image = originals(images)
    kept = []
    for rows in rows_by_class(images.labels[first]):
        kept.append(draw.permutation(rows)[: max(1, round(config.label_fraction * len(rows)))])
    index = np.flatnonzero(np.isin(image, np.concatenate(kept)))
    note = (
        f"probes use {len(index):,} of {len(images):,} training labels (label fraction {config.label_fraction:g}), of "
        "each class alike"
    )
    images = images.take(index)
    images = dataclasses.replace(images, label_notes=(*images.label_notes, note))
    return subsample(images, config.images, seed)


def files_of(images: ImageSet) -> np.ndarray | None:
    """The number of the file that each row belongs to; None where each is a file."""
    return None if images.of_file is None else originals(images)[1]


def originals(images: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each file int64 (G,), and the number of the file that each row belongs to int64 (N,).

    Rows are files, except for tiles (--fit tiles:N), pages (--pages images) and the frames of a DICOM: those of one
    file show the same thing, so that a split, a held-out part and a share of the data or of the labels have all of
    them or none.
    """
    if images.of_file is None:
        return np.arange(len(images)), np.arange(len(images))
    _, first, file = np.unique(images.of_file, return_index=True, return_inverse=True)
    return first, file


def with_labels(images: ImageSet) -> ImageSet:
    """The images that have a label; the set itself if all have one, or if it carries no labels."""
    if images.labels is None or (images.labels >= 0).all():
        return images
    return images.take(np.flatnonzero(images.labels >= 0))


def split_set(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet] | None:
    """One labelled set as (train, test) by `stratified_split`; None for images that carry no labels.

    Raises UnusableLabels for labels that are there but cannot be used, and when fewer than two classes have the two
    images that a split takes.
    """
    if images.labels is None and images.label_notes:
        raise UnusableLabels(f"{images.name} has {'; '.join(images.label_notes)}.")
    if images.labels is None:
        return None
    images = with_labels(images)
    assert images.labels is not None
    first, _ = originals(images)
    sizes = np.bincount(images.labels[first], minlength=len(images.class_names))
    splittable = np.count_nonzero(sizes >= 2)
    if splittable < 2:
        raise UnusableLabels(
            f"of the {len(sizes):,} classes of {images.name} ({listed(images.class_names)}), {splittable} "
            f"{'has' if splittable == 1 else 'have'} the 2 images that a split takes; probes need 2 such classes. "
            "Add images, or give other --probe-data."
        )
    note = f"for the probes {images.name} was split 80/20; if it is also trained on, the test part was seen unlabelled"
    alone = [name for name, size in zip(images.class_names, sizes, strict=True) if size == 1]
    notes = (*images.label_notes, note)
    if alone:
        few = "1 class" if len(alone) == 1 else f"{len(alone):,} classes"
        notes += (f"{few} of a single image left out of the probes: {listed(alone)}",)
    # only classes that both sets have keep a number, so no probe counts classes it can never be right about
    images = renumbered(images, tuple(n for n, size in zip(images.class_names, sizes, strict=True) if size >= 2))
    assert images.labels is not None
    first, image = originals(images)  # tiles of an image lie on the same side
    parts = [np.flatnonzero(np.isin(image, part)) for part in stratified_split(images.labels[first], seed)]
    train, test = (dataclasses.replace(images.take(part), label_notes=notes) for part in parts)
    return train, test


def renumbered(images: ImageSet, class_names: tuple[str, ...]) -> ImageSet:
    """The images of the classes `class_names`, labelled by position in it; images of other classes are dropped."""
    if images.labels is None or images.class_names == class_names:
        return images
    number = {name: i for i, name in enumerate(class_names)}
    new = np.array([number.get(name, -1) for name in images.class_names], np.int64)[images.labels]
    kept = np.flatnonzero(new >= 0)
    if len(kept) < len(images):
        images = images.take(kept)
    return dataclasses.replace(images, labels=new[kept], class_names=class_names)


def same_classes(train: ImageSet, test: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Both sets with the training set's classes. Test images of other classes are left out; both cases are noted.

    Raises UnusableLabels if fewer than two classes have images in both sets.
    """
    train, test = with_labels(train), with_labels(test)
    trained, tested = set(train.class_names), set(test.class_names)
    shared = trained & tested
    if len(shared) < 2:
        raise UnusableLabels(
            f"{train.name} has the classes {listed(train.class_names)}, {test.name} has {listed(test.class_names)}: "
            f"{'one is' if shared else 'none is'} in both, and probes need two. Use the same class names in both, or "
            "give other --probe-data."
        )
    unknown = [name for name in test.class_names if name not in trained]
    untested = [name for name in train.class_names if name not in tested]
    lost, notes = len(test), test.label_notes
    test = renumbered(test, train.class_names)
    if unknown:
        few = "1 class" if len(unknown) == 1 else f"{len(unknown):,} classes"
        notes += (
            f"{lost - len(test):,} of {lost:,} images of {test.name} are left out of the probes, because {few} of it "
            f"({listed(unknown)}) {'has' if len(unknown) == 1 else 'have'} no images in {train.name}",
        )
    if untested:
        notes += (f"{len(untested):,} of {len(train.class_names):,} classes have no test images: {listed(untested)}",)
    return train, dataclasses.replace(test, label_notes=tuple(dict.fromkeys(notes)))
