"""Images: where they come from, how they become a batch, and how a batch becomes views.

sources.py   start here: `load_images` and `load_probe_sets` turn what the user typed into ImageSets (images.py)
files.py     folders of image files: folder.py which files and classes, decode.py one file, chunks.py many in parallel
shards.py    WebDataset tar files, read in place
hugging_face.py   sets of Hugging Face's `datasets`: hugging_face_rows.py in place, streams.py read from front to end
arrays.py    .npy and .npz; builtin.py digits, CIFAR-10/100, STL-10 on disk; pickles.py reads CIFAR's pickles safely
sizing.py    which side the views get, and why; request.py what a source is asked; splitting.py train and test sets
cache.py     decoded sets as memory-mapped arrays in the user's cache folder
packs.py     the same in a folder of the user's own; packing.py writes it; pieces.py images inside larger files
batches.py   the order of the images, resumable at any batch and independent of the number of processes
viewspec.py  what a view is, and the published presets; augment.py makes the views of a whole batch at once
"""
