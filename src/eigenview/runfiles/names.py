"""Names of the files in a run directory."""

from __future__ import annotations

from pathlib import Path

CONFIG, ENVIRONMENT, SUMMARY, PROBES = "config.json", "environment.json", "summary.json", "probes.json"
METRICS, DIAGNOSTICS = "metrics.jsonl", "diagnostics.jsonl"
SPECTRA, SPECTRA_ROWS, GALLERY = "spectra.npz", "spectra.jsonl", "gallery.npz"
PROBE_HITS = "probe_hits.npz"
SKIPPED, REPORT, DATA_FILES = "skipped.csv", "report.html", "data_files.npz"
CHECKPOINT = Path("checkpoints") / "last.ckpt"
PREVIOUS_CHECKPOINT = Path("checkpoints") / "previous.ckpt"
WRITER = ".writer"
ENCODER, ENCODER_CARD = "encoder.safetensors", "encoder.json"
BACKBONE = Path("backbone")
"""Folder of an encoder of timm, as timm loads it (models/export.py)."""

OF_THE_WRITER = (CONFIG, ENVIRONMENT, SUMMARY, PROBES, METRICS, DIAGNOSTICS, SPECTRA, SPECTRA_ROWS, GALLERY, SKIPPED)
OF_THE_WRITER += tuple(BACKBONE / name for name in ("config.json", "README.md", "model.safetensors"))
OF_THE_WRITER += (ENCODER, ENCODER_CARD, CHECKPOINT, PREVIOUS_CHECKPOINT, DATA_FILES, PROBE_HITS)
"""Files that only the process with the lock writes."""
