"""A fuzz battery: thousands of damaged inputs and odd command lines, each of which must end as the promises say.

    python -m pytest -n 0 -m fuzz tests/fuzz              300 cases of a fixed seed, about a minute
    EIGENVIEW_FUZZ_CASES=5000 EIGENVIEW_FUZZ_SEED=7 ...   as many as wanted, of another seed
    EIGENVIEW_FUZZ_ONLY=run-files:17 ...                  one case again; with :fresh in a new interpreter

What a case promises is in oracle.py. The kinds are in battery.py, and what each draws in the file it comes from:

    options.py   command lines of every verb
    runs.py      the files of a run, its checkpoints, its encoder
    folders.py   folders of images, tar shards and packs
    tables.py    arrays, Parquet and Arrow data sets, files of embeddings
    weights.py   files of weights and timm's folders
    lists.py     tables of labels, lists of images, patterns
    depths.py    images of more bits, pages and channels
    caches.py    what is kept in the cache from one command to the next

A case is a recipe, plain values drawn by hypothesis, from which its input is built in a sandbox of its own (sandbox.py)
out of a good input (stock.py). Each recipe is drawn by itself, seeded with seed, kind and number: a case is the same
however many there are and whichever process runs it. @given draws recipes and does not run them, because cases run in
forked processes (children.py), several at a time, which must not import torch again, must be killed when they take too
long, and must not disturb each other. A case has one to four damages, so that there is little left to shrink.
"""
