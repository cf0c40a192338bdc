"""The order of images: a function of seed and epoch, resumable anywhere, the same for any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eigenview.config import LoaderConfig
from eigenview.data.batches import Batches, resident
from eigenview.data.images import ImageSet, stand_ins
from eigenview.data.load import load_images
from eigenview.errors import UserError
from tests.data.conftest import MakeImages


def image_set(count: int = 23, side: int = 8) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return ImageSet(
        name="noise",
        pixels=pixels,
        paths=(),
        labels=None,
        class_names=(),
        source_size=side,
        size=side,
        size_reason="as asked for",
        side_range=(side, side),
    )


def rows(batches: Batches) -> list[list[int]]:
    out = []
    for batch in batches:
        assert batch["index"] is not None
        assert batch["index"].dtype == torch.int64
        out.append(batch["index"].tolist())
    return out


def test_an_epoch_visits_each_image_at_most_once_and_drops_the_rest() -> None:
    batches = Batches(image_set(), batch_size=4, seed=0)
    epoch = rows(batches)
    assert len(batches) == len(epoch) == 5
    assert all(len(batch) == 4 for batch in epoch)
    seen = [row for batch in epoch for row in batch]
    assert len(set(seen)) == 20
    assert set(seen) <= set(range(23))
    assert np.array_equal(batches.order(0), epoch)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    a, b = (Batches(image_set(), batch_size=4, seed=5) for _ in range(2))
    first, second = rows(a), rows(a)  # an iteration continues with the next epoch
    assert first != second
    b.start(1, 0)
    assert rows(b) == second
    b.start(0, 0)
    assert rows(b) == first
    assert rows(Batches(image_set(), batch_size=4, seed=6)) != first


def test_a_span_of_epochs() -> None:
    one = Batches(image_set(), batch_size=4, seed=5)
    three = Batches(image_set(), batch_size=4, seed=5, epochs=3)
    assert len(three) == 15
    assert rows(three) == rows(one) + rows(one) + rows(one)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("taken", [0, 1, 4, 5, 7, 14])
def test_resuming_equals_not_stopping(taken: int, epochs: int) -> None:
    def endless(batches: Batches) -> list[list[int]]:
        return [batch for _ in range(3 // epochs) for batch in rows(batches)]

    whole = endless(Batches(image_set(), batch_size=4, seed=1, epochs=epochs))
    stopped = Batches(image_set(), batch_size=4, seed=1, epochs=epochs)
    before: list[list[int]] = []
    while len(before) < taken:
        for batch in stopped:
            before.append(batch["index"].tolist())  # type: ignore[union-attr]
            if len(before) == taken:
                break  # in the middle of the loop's body, as a checkpoint is written
    resumed = Batches(image_set(), batch_size=4, seed=1, epochs=epochs)
    resumed.load_state_dict(stopped.state_dict())
    rest: list[list[int]] = []
    while len(before) + len(rest) < len(whole):
        rest += rows(resumed)
    assert before + rest == whole
    by_position = Batches(image_set(), batch_size=4, seed=1, epochs=epochs)
    by_position.start(*divmod(taken, 5))
    if taken < 15:
        assert rows(by_position)[: len(rest)] == rest[: len(by_position)][: len(rows_left(taken, epochs))]


def rows_left(taken: int, epochs: int) -> range:
    """Steps left in the span of 5 * epochs that step `taken` lies in."""
    return range(taken, (taken // (5 * epochs) + 1) * 5 * epochs)


def test_a_state_of_other_data_is_refused() -> None:
    state = Batches(image_set(), batch_size=4, seed=1).state_dict()
    for other in (
        Batches(image_set(), batch_size=4, seed=2),
        Batches(image_set(), batch_size=8, seed=1),
        Batches(image_set(24), batch_size=4, seed=1),
    ):
        with pytest.raises(UserError, match="resume with the same data"):
            other.load_state_dict(state)


@pytest.mark.parametrize("world", [2, 4])
def test_slices_of_all_ranks_are_the_global_batch(world: int) -> None:
    whole = rows(Batches(image_set(), batch_size=8, seed=0, epochs=2))
    ranks = [rows(Batches(image_set(), batch_size=8, seed=0, epochs=2, rank=r, world=world)) for r in range(world)]
    assert [[row for part in parts for row in part] for parts in zip(*ranks, strict=True)] == whole


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"23 readable images.*24.*--batch-size"):
        Batches(image_set(), batch_size=24, seed=0)
    with pytest.raises(UserError, match=r"divide.*processes"):
        Batches(image_set(), batch_size=5, seed=0, world=2)
    with pytest.raises(ValueError, match="rank is 2"):
        Batches(image_set(), batch_size=4, seed=0, rank=2, world=2)
    with pytest.raises(ValueError, match="epoch has 5"):
        Batches(image_set(), batch_size=4, seed=0).start(0, 6)


def test_resident_shares_memory_and_gives_the_same_images() -> None:
    images = image_set()
    pixels, _ = resident(images, "cpu")
    assert pixels.dtype == torch.uint8
    assert pixels.data_ptr() == images.pixels.ctypes.data  # type: ignore[union-attr]
    with_images = Batches(images, batch_size=4, seed=0, is_resident=False)
    for batch, other in zip(Batches(images, batch_size=4, seed=0), with_images, strict=True):
        assert batch["images"] is None
        assert other["images"] is not None
        assert torch.equal(pixels[batch["index"]], other["images"])


def test_pixels_that_travel_to_a_gpu_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU nothing can be pinned, so that torch's call is counted: one for each batch that holds pixels."""
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x) or x)
    for is_resident, expected in ((False, 5), (True, 0)):
        batches = Batches(image_set(), batch_size=4, seed=0)
        batches.is_resident = is_resident
        pinned.clear()
        assert len(rows(batches)) == 5
        assert len(pinned) == expected


def test_resident_of_a_mapped_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image_set(23, 16).pixels)  # type: ignore[arg-type]
    images = load_images(str(tmp_path / "a.npy"))
    assert resident(images, "cpu")[0][:, 0, 0, 0].tolist() == list(range(23))


@pytest.mark.parametrize("shape", [(23, 3, 16, 16), (23, 16, 16, 3), (23, 16, 16)], ids=["planes", "colours", "grey"])
def test_parts_of_a_set_share_its_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    stored = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "a.npy", stored)
    images = load_images(str(tmp_path / "a.npy"))
    whole = images.read(np.arange(23))
    part = images.take(np.array([4, 22, 4, 0, 9])).take(np.array([3, 1, 2]))
    assert len(part) == 3
    assert images.pixels is not None
    assert part.pixels is images.pixels
    assert not np.shares_memory(part.read(np.arange(3)), images.pixels)
    np.testing.assert_array_equal(part.read(np.arange(3)), whole[[0, 22, 4]])
    pixels, rows = resident(part, "cpu")
    assert rows is not None
    assert pixels.data_ptr() == images.pixels.ctypes.data
    np.testing.assert_array_equal(pixels.index_select(0, rows[torch.tensor([2, 0])]).numpy(), whole[[4, 0]])


def test_a_gpu_gets_the_images_of_the_part_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenview.data.batches._COPIED", 4)
    part = image_set(23).take(np.arange(22, 5, -2))
    pixels, rows = resident(part, "meta")  # a device other than the CPU; its tensors have no values
    assert rows is None
    assert pixels.shape == (9, *part.pixels.shape[1:])  # type: ignore[union-attr]


def lazy_set(folder: Path, make_images: MakeImages, count: int) -> tuple[ImageSet, list[Path]]:
    paths = make_images(folder, count)
    return load_images(str(folder), size=20, loader=LoaderConfig(cache_gb=0)), paths


def check_content(batch: dict[str, Any]) -> None:
    """The red value of the first pixel is the image's row."""
    assert batch["images"].shape == (len(batch["index"]), 3, 20, 20)
    assert batch["images"][:, 0, 0, 0].tolist() == batch["index"].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_decoded_batches_in_the_same_order(tmp_path: Path, make_images: MakeImages, workers: int) -> None:
    images, _ = lazy_set(tmp_path / "set", make_images, 23)
    batches = Batches(images, batch_size=4, seed=3, epochs=2, workers=workers)
    batches.start(0, 2)
    seen = []
    for batch in batches:
        check_content(batch)
        seen.append(batch["index"].tolist())  # type: ignore[union-attr]
    reference = Batches(image_set(), batch_size=4, seed=3, epochs=2)
    assert seen == rows(reference)[2:]
    assert batches.state_dict() == reference.state_dict()
    assert batches.replaced == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_is_replaced_and_counted(tmp_path: Path, make_images: MakeImages, workers: int) -> None:
    images, paths = lazy_set(tmp_path / "set", make_images, 8)
    paths[3].write_bytes(paths[3].read_bytes()[:600])
    paths[6].unlink()
    batches = Batches(images, batch_size=4, seed=0, workers=workers)
    for batch in batches:
        check_content(batch)  # index and images still belong together
        assert not {3, 6} & set(batch["index"].tolist())  # type: ignore[union-attr]
    assert sorted(Path(s.path).name for s in batches.replaced) == ["003.png", "006.png"]
    for path in paths:
        path.unlink(missing_ok=True)
    with pytest.raises(UserError, match="none of 4 images of a batch"):
        rows(batches)


def test_stand_ins() -> None:
    assert stand_ins(5, {1, 2}).tolist() == [0, 3, 3, 3, 4]
    assert stand_ins(4, {2, 3}).tolist() == [0, 1, 0, 0]
