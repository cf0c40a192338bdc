"""`eigenview probe`: accuracy of encoders on labelled images, and whether they are worth using."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from eigenview import runfiles
from eigenview.commands.options import FLAT, parse
from eigenview.commands.represent import show_loaded
from eigenview.config import ProbeConfig
from eigenview.errors import UserError, require
from eigenview.probes.protocols import ProtocolOption, protocol_names
from eigenview.progress import loading
from eigenview.terminal import Console


@dataclass(frozen=True, kw_only=True)
class Probe:
    """k-NN, linear and few-label accuracy of encoders, beside raw pixels and what their runs started from."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories, encoder.safetensors files, or weights: a file, a folder of timm, timm:NAME, hf:OWNER/NAME.
    Several stand in one table."""
    data: str | None = None
    """Labelled images: a folder with train/ and test/, or one set that is split. Default: the first run's own."""
    encoder: str = "auto"
    """Architecture of weights that do not name theirs: timm:NAME, torchvision:NAME, or one of eigenview's own."""
    image_size: int | None = None
    """Side in pixels to which images are brought; default: that of the run or of the weights."""
    labels: str | None = None
    """Labels of the images, as for pretrain: auto, or a CSV file with the columns path and label. Default: the run's,
    if its own images are used, else auto."""
    protocol: ProtocolOption = "all"
    """Which accuracies."""
    seed: int = 0
    """Seed of splits and few-label draws."""
    probe: Annotated[ProbeConfig, FLAT] = ProbeConfig()
    out: Path | None = None
    """Also write the table, what each encoder is worth and the recommendation as JSON to this file."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**63, "--seed", self.seed, "0 or more, up to below 2 to the 63rd")
        if len(set(self.runs)) < len(self.runs):
            raise UserError("an encoder is named twice; name each once: eigenview probe RUN [RUN ...]")


def main(args: list[str]) -> int:
    """Print what the encoders are worth and the table of accuracies, and write both where --out says."""
    options: Probe = parse(Probe, args, "probe")
    if not options.runs:
        raise UserError("probe needs a run directory: eigenview probe RUN [RUN ...]")
    progress = Console(stderr=True)
    with loading(progress, "PyTorch"):
        from eigenview.commands.probe_encoders import probe_encoders
        from eigenview.models.backbone import load_encoder
        from eigenview.probes.table import show_probes

    named = {"encoder": options.encoder, "image_size": options.image_size}
    encoders = {place: load_encoder(place, **named) for place in options.runs}
    for place, encoder in encoders.items():
        show_loaded(place, encoder, progress)
    columns = protocol_names(options.protocol)
    found = probe_encoders(
        encoders, options.data, columns, options.probe, options.seed, progress, labels=options.labels
    )
    console = Console()
    for sentence in found.sentences():
        console.print(sentence)
    show_probes(found.table, console)
    if options.out is not None:
        runfiles.write_json(options.out, found.as_json())
    return 0
