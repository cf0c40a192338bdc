"""`eigenview probe`: accuracy of the encoder of a finished run on labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from eigenview import runfiles
from eigenview.commands.options import FLAT, parse
from eigenview.config import LoaderConfig, ProbeConfig
from eigenview.errors import UserError, require
from eigenview.probes.protocols import ProtocolOption, protocol_names
from eigenview.progress import counting, loading
from eigenview.terminal import Console


@dataclass(frozen=True, kw_only=True)
class Probe:
    """k-NN, linear and few-label accuracy of a finished run's encoder, beside raw pixels."""

    run: tyro.conf.Positional[Path]
    """The run directory (or an encoder.safetensors)."""
    data: str | None = None
    """Labelled images: a folder with train/ and test/, or one set that is split. Default: the run's own."""
    protocol: ProtocolOption = "all"
    """Which accuracies."""
    seed: int = 0
    """Seed of splits and few-label draws."""
    probe: Annotated[ProbeConfig, FLAT] = ProbeConfig()
    out: Path | None = None
    """Also write the table as JSON to this file."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "--seed", self.seed, "0 or more, up to below 2 to the 63rd")


def main(args: list[str]) -> int:
    """Print the table of accuracies, and write it where --out says."""
    options: Probe = parse(Probe, args, "probe")
    console = Console(stderr=True)
    table = probe_encoder(options.run, options.data, options.protocol, options.probe, options.seed, console)
    from eigenview.probes.table import show_probes

    show_probes(table, Console())
    if options.out is not None:
        runfiles.write_json(options.out, table)
    return 0


def probe_encoder(
    run: Path, data: str | None, protocol: str, config: ProbeConfig, seed: int, console: Console
) -> dict[str, Any]:
    """The probe table of an encoder on labelled images, beside raw pixels.

    Args:
        run: run directory or encoder file.
        data: labelled images; None for the probe data of the run, or its training data.
        protocol: a protocol or "all".
        config: options of the probes.
        seed: seed of splits and few-label draws.
        console: where progress is shown.

    Raises:
        UserError: images without labels, and as `load_encoder` and `load_probe_sets`.
    """
    with loading(console, "PyTorch"):
        from eigenview.data.load import load_probe_sets
        from eigenview.data.pixels.cache import cache_folder
        from eigenview.data.splitting import subsample
        from eigenview.models.saved import load_encoder
        from eigenview.probes.features import extract, raw_pixels
        from eigenview.probes.table import probe_table
        from eigenview.run import read_config

    encoder = load_encoder(run)
    if data is None:
        trained = read_config(run if run.is_dir() else run.parent)
        if trained.labels == "none" and trained.probe_data is None:
            raise UserError(
                f"{run} was trained with --labels none, so that its images have none: give others with --data."
            )
        data = trained.probe_data or trained.data
    source = encoder.card.get("source_size", encoder.size)
    sides = {"size": encoder.size, "source_size": source}
    sets = load_probe_sets(data, **sides, reading=encoder.reading, loader=LoaderConfig(), seed=seed, console=console)
    if sets is None:
        raise UserError(f"--data {data} has no labels: a probe needs class subfolders, or an array file with labels.")
    train, test = subsample(sets[0], config.images, seed), sets[1]
    assert train.labels is not None
    assert test.labels is not None
    with counting(console, "features") as progress:
        ours = tuple(extract(encoder.embed, part, progress=progress) for part in (train, test))
    with console.waiting("probes"):
        rows = {"raw pixels": (raw_pixels(train), raw_pixels(test)), "this encoder": (ours[0], ours[1])}
        return probe_table(
            rows,
            train.labels,
            test.labels,
            config,
            train.class_names,
            seed,
            columns=protocol_names(protocol),
            shared=("raw pixels",),
            memory=cache_folder() / "probes",
            notes=tuple(dict.fromkeys((*train.label_notes, *test.label_notes))),
        )
