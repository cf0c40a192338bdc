"""Where images come from: folders, arrays, published sets, shards, packs, Hugging Face data sets, streams."""
