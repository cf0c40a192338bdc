"""Images: where they come from, how they become a batch, and how a batch becomes views.

load.py       start here: `load_images` and `load_probe_sets` turn what the user typed into ImageSets
images.py     the record of a set of images; splitting.py makes training and test sets
sources/      folders (folder.py, files.py; encoded.py is what files and streams share), arrays (arrays.py), published
              sets (builtin.py; pickles.py reads CIFAR's), tar shards (shards.py), Hugging Face (hugging_face.py,
              hugging_face_rows.py, streams.py), packs (packs.py); source.py is what every source can do
pixels/       decode.py one image, parallel.py many, byte_ranges.py an image inside a larger file, image_size.py side
              of the views, cache.py decoded sets as memory-mapped arrays
views/        specs.py what a view is; presets.py the published sets and kinds of images; draw.py random parameters;
              augment.py views of a whole batch; colour.py, resample.py, geometry.py its operations; own.py the user's
packing.py    writes a pack: any source, decoded once
batches.py    the order of the images, resumable at any batch and independent of the number of processes
"""
