"""SimCLR by lightly's parts around our encoder: its data set, transform and loss in the plain loop of its example.

The example (lightly-ai/lightly, examples/pytorch/simclr.py, commit 2abf921) is: a DataLoader of worker processes that
read each file anew and transform it once for each view, shuffled, without the last incomplete batch; a forward pass for
each view, NT-Xent, one step; 256 images, SGD at 0.06, temperature 0.5, float32. Written from these facts.

Network, initial weights, optimiser and schedule are those of the config, built by the engine; what is left at the end
(verdict, probes, summary) is written by the engine too, so that a run by lightly differs in how it trained alone.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from eigenview import runfiles
from eigenview.config import RunConfig, method_name, to_dict
from eigenview.data.pixels.parallel import cores
from eigenview.data.views.specs import ViewSpec
from eigenview.engine.callbacks import MetricsWriter, Monitor
from eigenview.engine.environment import describe_environment
from eigenview.engine.finalize import finish
from eigenview.engine.module import PretrainModule
from eigenview.engine.plan import Plan, make_plan
from eigenview.engine.train import build_module
from eigenview.errors import require
from eigenview.methods.parts.joint_embedding import JointEmbedding
from eigenview.terminal import Console

MISSING = "lightly is not installed: uv sync --inexact --group bench"
LIBRARY = "library"  # in environment.json of a run that another library trained


def version() -> str | None:
    """lightly's version, or None where it is not installed."""
    try:
        return importlib.metadata.version("lightly")
    except importlib.metadata.PackageNotFoundError:
        return None


def transform_options(spec: ViewSpec, size: int) -> dict[str, Any]:
    """Arguments of lightly's SimCLRTransform for the views of a ViewSpec of side `size`.

    Crop, flip, colour jitter, grayscale, blur and normalisation have the same probabilities and ranges. Left over: its
    crops are resampled bilinearly from the file as it is, ours as `spec.interpolation` says from the stored square.
    """
    require(spec.solarize == 0, "augmentation.solarize", spec.solarize, "0: lightly's SimCLRTransform has none")
    return {
        "input_size": size,
        "cj_prob": spec.jitter,
        "cj_strength": 1.0,  # multiplies the next four
        "cj_bright": spec.brightness,
        "cj_contrast": spec.contrast,
        "cj_sat": spec.saturation,
        "cj_hue": spec.hue,
        "min_scale": spec.crop_scale[0],
        "random_gray_scale": spec.grayscale,
        "gaussian_blur": spec.blur,
        "sigmas": spec.blur_sigma,
        "hf_prob": spec.flip,
        "normalize": {"mean": list(spec.mean), "std": list(spec.std)},
    }


def loader(plan: Plan) -> DataLoader[Any]:
    """Two views of the plan's training images, read from their files by as many workers as there are cores."""
    from lightly.data import LightlyDataset  # pyright: ignore[reportMissingImports]
    from lightly.transforms import SimCLRTransform  # pyright: ignore[reportMissingImports]

    require(len(set(plan.specs)) == 1, "--augmentation", plan.config.augmentation, "one preset for both views")
    root = Path(plan.config.data).expanduser()
    names = [os.path.relpath(path, root) for path in plan.train.paths]
    transform = SimCLRTransform(**transform_options(plan.specs[0], plan.size))
    images = LightlyDataset(str(root), transform=transform, filenames=names)
    require(
        len(images) == len(plan.train) > 0, "images lightly finds", len(images), f"the {len(plan.train)} of the plan"
    )
    batch = plan.config.batch_size
    return DataLoader(images, batch_size=batch, shuffle=True, drop_last=True, num_workers=cores())


def train(config: RunConfig[Any], directory: Path, console: Console) -> None:
    """One run of `config` by lightly's loop, left in `directory` as the engine leaves its own."""
    require(
        method_name(config.method) == "simclr" and config.views == 2,
        "--method",
        method_name(config.method),
        "simclr of two views",
    )
    plan = make_plan(config, console=console)
    module = build_module(plan).to(plan.device)
    runfiles.create_run_dir(directory)
    with runfiles.run_lock(directory):
        _train(plan, module, config, directory, console)


def _train(plan: Plan, module: PretrainModule, config: RunConfig[Any], directory: Path, console: Console) -> None:
    runfiles.write_json(directory / runfiles.CONFIG, to_dict(config))
    environment = describe_environment(sys.argv, plan) | {LIBRARY: f"lightly {version()}"}
    runfiles.write_json(directory / runfiles.ENVIRONMENT, environment)
    log = MetricsWriter(directory, config.monitor.log_every_steps, config.batch_size)
    held_out = torch.from_numpy(plan.held_out.read(np.arange(len(plan.held_out))))
    monitor = Monitor(directory, held_out, module.steps, log, stop=False)
    monitor.views = module.make_views(held_out.to(plan.device), config.seed + 2**31)  # the monitor's own views
    monitor.diagnose(module, 0)
    console.print(f"lightly {version()}: {module.steps} steps of {config.batch_size}, {plan.precision_note}")
    seconds, failure = fit(plan, module, loader(plan))
    if failure is None:
        monitor.diagnose(module, module.steps)
    log.seconds = seconds  # the summary's; the diagnoses have moved it
    finish(
        plan,
        module,
        directory,
        log=log,
        history=monitor.history,
        failure=failure,
        ended_early=False,
        console=console,
    )


def fit(plan: Plan, module: PretrainModule, batches: DataLoader[Any]) -> tuple[float, str | None]:
    """(seconds, why it failed or None) of all steps of all epochs, loading and augmentation included.

    With bfloat16 the two forward passes are under autocast and the loss is computed in float32, as the engine does.
    """
    from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]

    torch.manual_seed(plan.config.seed)
    criterion = NTXentLoss(temperature=plan.config.method.temperature)
    optimizer = module.configure_optimizers()
    step = 0
    start = time.perf_counter()
    method = module.method
    assert isinstance(method, JointEmbedding)
    for _ in range(plan.config.epochs):
        total = torch.zeros((), device=plan.device)
        for views, _, _ in batches:
            for group in optimizer.param_groups:
                group["lr"] = module.learning_rate_at(step) * group["factor"]
            with torch.autocast(plan.device.type, dtype=torch.bfloat16, enabled=plan.bf16):
                z0, z1 = (method.network.embed(view.to(plan.device))[1] for view in views)
            loss = criterion(z0.float(), z1.float())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
            step += 1
        if not math.isfinite(float(total)):  # waits for the device, so that the clock is right
            return time.perf_counter() - start, f"lightly's loss became non-finite by step {step}"
    return time.perf_counter() - start, None
