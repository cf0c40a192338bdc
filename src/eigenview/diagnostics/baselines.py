"""What an encoder is compared with: names of rows in probes.json, and how sentences call them."""

from __future__ import annotations

RAW_PIXELS, UNTRAINED, OURS = "raw pixels", "untrained encoder", "this encoder"
"""The images themselves, the encoder with the random weights it started from, and the encoder that was asked about."""
STARTED_FROM = "backbone you started from"
"""The pretrained encoder that the run started from, unchanged."""
RECALIBRATED = "with batch-norm statistics of these images"
"""The same weights with batch-norm statistics of the run's images: what adapting them gains without any training."""
MOST_FREQUENT = "most frequent class"
"""A classifier that always answers the most frequent training class; a row where the classes differ in size."""
PHRASES = {
    RAW_PIXELS: "raw pixels",
    UNTRAINED: "the untrained encoder",
    STARTED_FROM: "the backbone you started from",
    RECALIBRATED: "the backbone you started from with batch-norm statistics of these images",
    MOST_FREQUENT: "always answering the most frequent class",
}
"""Names in sentences, the baseline that matters most last but for raw pixels, which everybody has."""
IMPORTANCE = (MOST_FREQUENT, STARTED_FROM, RAW_PIXELS, UNTRAINED, RECALIBRATED)
"""Which one a sentence names if several deserve it."""
