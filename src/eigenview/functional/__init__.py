"""Pure tensor mathematics: second moments, similarities, spectra. Tensors in, tensors out; no state, no processes."""
