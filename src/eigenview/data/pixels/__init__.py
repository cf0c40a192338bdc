"""From a file to pixels: decoding, image size, the cache of decoded images, work on many images in parallel."""
