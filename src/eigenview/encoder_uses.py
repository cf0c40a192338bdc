"""What the command line does with an encoder that exists already: probe it, embed images, diagnose it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from eigenview import runfiles
from eigenview.config import LoaderConfig, ProbeConfig
from eigenview.errors import UserError
from eigenview.progress import counting

if TYPE_CHECKING:
    from eigenview.data.images import ImageSet

# verdict measures in the order in which people read them, with what they mean
SHOWN = {
    "std": "mean standard deviation per dimension",
    "std_l2": "the same of unit-length rows, times sqrt(width): 1 is isotropic",
    "mean_to_spread": "length of the mean / distance to it",
    "rankme": "RankMe",
    "rankme_centred": "RankMe of centred rows",
    "participation_ratio": "participation ratio of the covariance",
    "alpha": "alpha-ReQ: decay of the spectrum",
    "correlation": "mean |correlation| between dimensions",
    "cosine_others": "mean cosine of two different images",
    "uniformity": "uniformity",
    "bias_ratio": "plug-in bias ratio, participation ratio / (n - 1)",
}


def probe_encoder(
    run: Path, data: str | None, protocol: str, config: ProbeConfig, seed: int, console: Console
) -> dict[str, Any]:
    """The probe table of an encoder on labelled images, beside raw pixels."""
    from eigenview.data.load import load_probe_sets
    from eigenview.data.pixels.cache import cache_folder
    from eigenview.data.splitting import subsample
    from eigenview.models.export import load_encoder
    from eigenview.probes.features import extract, raw_pixels
    from eigenview.probes.protocols import protocol_names
    from eigenview.probes.table import probe_table
    from eigenview.run import read_config

    encoder = load_encoder(run)
    spec = data
    if spec is None:
        settled = read_config(run if run.is_dir() else run.parent)
        spec = settled.probe_data or settled.data
    source = encoder.card.get("source_size", encoder.size)
    sides = {"size": encoder.size, "source_size": source}
    sets = load_probe_sets(spec, **sides, loader=LoaderConfig(), seed=seed, console=console)
    if sets is None:
        raise UserError(f"--data {spec} has no labels: a probe needs class subfolders, or an array file with labels.")
    train, test = subsample(sets[0], config.images, seed), sets[1]
    assert train.labels is not None
    assert test.labels is not None
    with counting(console, "features") as progress:
        ours = tuple(extract(encoder.embed, part, progress=progress) for part in (train, test))
    with console.status("probes"):
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
        )


def embed_images(model: str, images: str, out: Path, console: Console) -> tuple[int, int]:
    """Write a Parquet file of representations; returns rows and width."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from eigenview.data.images import printable
    from eigenview.data.load import load_images
    from eigenview.models.export import load_encoder
    from eigenview.probes.features import extract

    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist. Create it, or choose another --out.")
    encoder = load_encoder(model)
    source = encoder.card.get("source_size")
    found = load_images(images, size=encoder.size, source_size=source, split="all", console=console)
    _say_skipped(found, console)
    with counting(console, "embedding") as progress:
        h = extract(encoder.embed, found, progress=progress)
    columns: dict[str, Any] = {"index": pa.array(np.arange(len(found)))}
    if found.paths:
        columns["path"] = pa.array([printable(path) for path in found.paths])
    if found.labels is not None:
        columns["label"] = pa.array([found.class_names[k] for k in found.labels])
    columns["h"] = pa.FixedSizeListArray.from_arrays(pa.array(h.reshape(-1)), h.shape[1])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    runfiles.write_bytes(out, sink.getvalue().to_pybytes())
    return h.shape


def diagnose_anything(what: str, data: str | None, column: str | None, console: Console) -> dict[str, Any]:
    """Verdict and measures: of a finished run from its files, of an embeddings file, or of a model on images."""
    path = Path(what)
    if path.is_dir() and data is None:
        summary = runfiles.read_json(path / runfiles.SUMMARY)
        rows = runfiles.read_rows(path / runfiles.DIAGNOSTICS)
        measures = rows[-1]["z"] if rows else {}
        kept = {k: summary[k] for k in ("verdict", "since_epoch", "reason", "remedies", "notes")}
        return {"what": what, "of": "embedding z, held-out batch", **kept, "measures": measures}
    from eigenview.diagnostics.monitor import diagnose_embeddings

    if path.suffix.lower() in (".npy", ".npz", ".parquet"):
        x = read_embeddings(path, column)
        of = f"{len(x):,} rows, {x.shape[1]} wide"
    else:
        x = _embed_with(what, data or "digits", console)
        of = f"representation of {len(x):,} images of {data or 'digits'}, {x.shape[1]} wide"
    import torch

    measures, verdict = diagnose_embeddings(torch.from_numpy(x))
    return {"what": what, "of": of, **_flat(verdict), "measures": measures}


def _say_skipped(images: ImageSet, console: Console) -> None:
    """Files that have no row: only a run has a skipped.csv to list them all in."""
    if images.skipped:
        first = images.skipped[0]
        text = f"left out: {len(images.skipped)} unreadable, the first {first.path}: {first.reason}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _flat(verdict: Any) -> dict[str, Any]:
    values = asdict(verdict)
    return {"verdict": values.pop("label"), **values}


def _embed_with(model: str, data: str, console: Console) -> np.ndarray:
    from eigenview.data.load import load_images
    from eigenview.models.export import load_encoder
    from eigenview.probes.features import extract

    encoder = load_encoder(model)
    source = encoder.card.get("source_size")
    images = load_images(data, size=encoder.size, source_size=source, split="all", console=console)
    _say_skipped(images, console)
    most = 2000  # enough for rank up to the widths in use, seconds on a CPU
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:most])
    with counting(console, "embedding") as progress:
        return extract(encoder.embed, images.take(chosen), progress=progress)


def read_embeddings(path: Path, column: str | None) -> np.ndarray:
    """float32 (N, width) of an embeddings file; never unpickles.

    Raises UserError for a missing, damaged or empty file, and where the array to take is not clear.
    """
    from eigenview.data.sources.arrays import READ_ERRORS

    if not path.is_file():
        raise UserError(f"{path}: no such file. Give a .npy, .npz or .parquet of embeddings.")
    try:
        found = _arrays(path)
    except (
        OSError,
        TypeError,
        AttributeError,
        *READ_ERRORS,
    ) as error:  # the two: an archive named .npy, or the reverse
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read: {reason}") from None
    fitting = {k: v for k, v in found.items() if v.ndim == 2 and v.dtype.kind in "fiu"}
    if column is not None and column not in fitting:
        names = ", ".join(fitting) or "no numeric table"
        raise UserError(f"--column {column}: {path} has {names}. Choose one of them.")
    if column is None and len(fitting) != 1:
        shapes = ", ".join(f"{k} {v.shape}" for k, v in found.items()) or "no numbers in rows of one length"
        raise UserError(f"{path} holds {shapes}; one numeric (rows, width) table is needed. Name it with --column.")
    x = np.array(fitting[column] if column is not None else next(iter(fitting.values())), dtype=np.float32)
    if min(x.shape) < 2:
        raise UserError(f"{path}: embeddings of shape {x.shape}; a verdict needs at least 2 rows and 2 columns.")
    return x


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npy":
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive of arrays; call it .npz")
        return {"array": array}
    if path.suffix.lower() == ".npz":
        return runfiles.read_arrays(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    lists, numbers = {}, {}
    for name in table.column_names:
        values = table[name].combine_chunks()
        kind = values.type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            if values.null_count:
                raise ValueError(f"column {name} has {values.null_count:,} rows without a vector")
            widths = {len(v) for v in values}
            if len(widths) == 1 and len(values):
                lists[name] = np.asarray(values.flatten()).reshape(len(values), -1)
        elif pa.types.is_floating(kind):
            numbers[name] = np.asarray(values)
    # one column of vectors, or a table whose float columns are the dimensions
    return lists or ({"columns": np.stack(list(numbers.values()), axis=1)} if numbers else {})


def show_diagnosis(result: dict[str, Any], *, as_json: bool) -> None:
    """The verdict as a person reads it, or as JSON for scripts."""
    if as_json:
        print(json.dumps(runfiles.json_ready(result), indent=2))
        return
    console = Console()
    colour = "green" if result["verdict"] == "healthy" else "red"
    console.print(f"{'verdict':9} [bold {colour}]{result['verdict']}[/]: {result['reason']}", highlight=False)
    for label, lines in (("try", result["remedies"]), ("note", result["notes"])):
        for line in lines:
            console.print(f"{label:9} {line}", highlight=False, markup=False)
    console.print(f"{'of':9} {result['of']}", highlight=False, markup=False)
    for name, text in SHOWN.items():
        value = result["measures"].get(name)
        if value is not None:
            console.print(f"{value:12.4g}  {text}", highlight=False, markup=False)
