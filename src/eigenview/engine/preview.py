"""The views of a run's first step, before any training."""

from __future__ import annotations

from typing import Any

import torch

from eigenview.config import RunConfig
from eigenview.data.batches import Batches
from eigenview.data.pixels.pictures import channels_note, default_channels
from eigenview.data.views.augment import to_uint8
from eigenview.engine.plan import make_plan
from eigenview.engine.step import step_seeds
from eigenview.engine.views import make_views
from eigenview.report.sheet import Column


def first_views(config: RunConfig[Any], count: int, console: Any = None) -> list[Column]:
    """`count` images of the first batch, as they are and as each view of the first step has them.

    With several processes these are the images of the first one. The views are not compiled: --compile-augmentation
    changes the last digits only, which uint8 does not show.

    Raises: UserError, as a run with this configuration would before its first step.
    """
    plan = make_plan(config, console=console)
    batches = Batches(plan.train, batch_size=config.batch_size, seed=config.seed, world=config.devices)
    batch = next(iter(batches))
    index, images = batch["index"], batch["images"]
    assert index is not None
    if images is None:
        images = torch.from_numpy(plan.train.read(index.numpy()))
    seed, _ = step_seeds(config.seed, 0, 0)
    views = make_views(images.to(plan.device), plan.specs, plan.size, seed)
    channels = plan.train.reading.channels
    notes = [f"{plan.train.source_size} px", channels_note(channels, default_channels(channels))]
    text = ". ".join(each[:1].upper() + each[1:].rstrip(".") for each in (*notes, *plan.train.pixel_notes) if each)
    columns = [Column("original", text, images[:count].numpy())]
    for k, (view, spec) in enumerate(zip(views, plan.specs, strict=True)):
        number = k + 1 if spec.size is None else k + 1 - config.views
        title = f"{'view' if spec.size is None else 'local'} {number}"
        text = f"{view.shape[-1]} px: {spec.summary(view.shape[-1], channels)}"
        columns.append(Column(title, text, to_uint8(view[:count], spec).cpu().numpy()))
    return columns
