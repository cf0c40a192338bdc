"""The run directory: names, atomic writes, and one reader for each file. Free of torch; the report reads nothing else.

config.json         RunConfig as JSON (config.to_dict)
environment.json    {"eigenview", "python", "torch", "platform", "device", "threads", "commit", "command": [...],
                     "started": ISO time, "pixels": how they are made from files (config/reading.py),
                     "defaults": the configuration this method starts from by default,
                     "estimated_memory_gb", "measured_memory_gb", "estimated_seconds": or null}
                     of the run as it began; "resumed": a list of {"step", "started", "commit", "torch", "device",
                     "eigenview"} where it was continued; "command" is empty for a call in Python
metrics.jsonl       a row for the first step, for each monitor.log_every_steps and for the last: {"step",
                     "epoch" (float), "seconds", "lr", "loss", "terms": {name: weighted value}, "images_per_second",
                     "target_momentum" (or null)}
diagnostics.jsonl   a row each diagnosis: {"step", "epoch", "h": {measure: value}, "z": {measure: value},
                     "verdict": label so far}; measures of diagnostics/measures.py, non-finite ones as null. With a
                     predictor also "predictor": {measure: value} of diagnostics/predictor.py
spectra.npz         "step" (T), "h" (T, H), "z" (T, D): eigenvalues of the covariance, descending. With a predictor
                     also "F", "W_p", "alignment", each (T, D): eigenvalues of the second moment of z, descending,
                     v^T W_p v and cos(v, W_p v) of its eigenvectors v; nan where W_p is not determined; "noise" and,
                     with a target, "target": the variance between an image's views and tau, both along v
gallery.npz         images of C channels, of more than 16 the first 16:
                     "originals" uint8 (K, C, S, S), "views" uint8 (V, K, C, S, S) as the network saw them;
                     "queries" uint8 (Q, C, S, S), "neighbours" uint8 (Q, R, C, S, S), "cosines" float32 (Q, R)
                     nearest neighbours by cosine of h; optional "query_labels" (Q,), "neighbour_labels" (Q, R)
probes.json         {"protocols": {column: sentence}, "columns": [...], "rows": [{"features": name,
                     column: percent or null, column_per_class: mean over classes of the same, ...}],
                     "per_class": whether the classes differ in size (then the first row is "most frequent class"),
                     "note": text or null, "class_names": [...]}; without probes no columns, and a note why
probe_hits.npz      which test images each probe got right, for each row of probes.json (hits.py); without probes none
summary.json        {"verdict", "since_epoch", "reason", "remedies": [...], "notes": [...],
                     "warnings": [...] (earlier versions only), "worth": the second verdict (diagnostics/worth.py):
                     {"word", "why", "labels_per_class", "resamples", "level", "against": {baseline: {"word",
                     "probes": {column: {"ours", "theirs", "difference", "low", "high", "images", "draws"}}}}} with
                     differences in percentage points (absent in earlier versions), "method", "seed",
                     "epochs", "data", "images", "encoder", "parameters", "knn", "linear", "linear_few",
                     "baselines": {name: {"knn", "linear", "linear_few"}}, "quality": {measure: value},
                     "seconds", "images_per_second", "finished": bool}; missing numbers are null
data_files.npz      hashes of the files of the data (engine/data_check.py), compared when the run is resumed
skipped.csv         path,reason of each unreadable image
spectra.jsonl       the same while the run goes on, a row each diagnosis: {"step", "spectra": {name: float32, base 64}}
checkpoints/last.ckpt, checkpoints/previous.ckpt
                    archives of torch.save with a checksum as the zip comment (sealing.py): the last two checkpoints
encoder.safetensors, encoder.json, report.html
backbone/           of a network of timm: config.json, README.md, model.safetensors (a link), as timm loads them
.writer             the number of the process that is writing here, while it writes (`run_lock`)

JSON files and rows have a field "checksum" (writing.py), which readers compare and leave out. Files of earlier versions
have none; in a file that was changed on purpose it may be deleted. Arrays are checked by the zip format's own
checksums, encoder.safetensors by the "sha256" in encoder.json.
"""

from eigenview.runfiles.directory import create_run_dir, run_dir, run_lock, set_name
from eigenview.runfiles.formats import (
    CARD_KIND,
    MODES,
    read_config,
    read_diagnostics,
    read_environment,
    read_gallery,
    read_metrics,
    read_probes,
    read_spectra,
    read_summary,
    spectra_row,
)
from eigenview.runfiles.hits import Hits, images_hash, read_hits, write_hits
from eigenview.runfiles.names import (
    BACKBONE,
    CHECKPOINT,
    CONFIG,
    DATA_FILES,
    DIAGNOSTICS,
    ENCODER,
    ENCODER_CARD,
    ENVIRONMENT,
    GALLERY,
    METRICS,
    PREVIOUS_CHECKPOINT,
    PROBE_HITS,
    PROBES,
    REPORT,
    SKIPPED,
    SPECTRA,
    SPECTRA_ROWS,
    SUMMARY,
    WRITER,
)
from eigenview.runfiles.opening import open_regular, read_regular
from eigenview.runfiles.reading import (
    ARRAY_ERRORS,
    damaged,
    file_bytes,
    parse_json,
    read_arrays,
    read_json,
    read_object,
    read_rows,
    read_table,
)
from eigenview.runfiles.sealing import is_intact, sealed
from eigenview.runfiles.writing import (
    append_row,
    atomic_write,
    delete_abandoned,
    delete_leftovers,
    json_ready,
    keep_copy,
    open_temporary,
    write_arrays,
    write_bytes,
    write_json,
    write_link,
    write_object,
    write_rows,
    write_table,
    write_text,
)

__all__ = [
    "ARRAY_ERRORS",
    "BACKBONE",
    "CARD_KIND",
    "CHECKPOINT",
    "CONFIG",
    "DATA_FILES",
    "DIAGNOSTICS",
    "ENCODER",
    "ENCODER_CARD",
    "ENVIRONMENT",
    "GALLERY",
    "METRICS",
    "MODES",
    "PREVIOUS_CHECKPOINT",
    "PROBES",
    "PROBE_HITS",
    "REPORT",
    "SKIPPED",
    "SPECTRA",
    "SPECTRA_ROWS",
    "SUMMARY",
    "WRITER",
    "Hits",
    "append_row",
    "atomic_write",
    "create_run_dir",
    "damaged",
    "delete_abandoned",
    "delete_leftovers",
    "file_bytes",
    "images_hash",
    "is_intact",
    "json_ready",
    "keep_copy",
    "open_regular",
    "open_temporary",
    "parse_json",
    "read_arrays",
    "read_config",
    "read_diagnostics",
    "read_environment",
    "read_gallery",
    "read_hits",
    "read_json",
    "read_metrics",
    "read_object",
    "read_probes",
    "read_regular",
    "read_rows",
    "read_spectra",
    "read_summary",
    "read_table",
    "run_dir",
    "run_lock",
    "sealed",
    "set_name",
    "spectra_row",
    "write_arrays",
    "write_bytes",
    "write_hits",
    "write_json",
    "write_link",
    "write_object",
    "write_rows",
    "write_table",
    "write_text",
]
