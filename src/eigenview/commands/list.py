"""`eigenview list`: names and one line each. Only `encoders` imports torch."""

from __future__ import annotations

from eigenview.errors import UserError, hint
from eigenview.terminal import write

LISTS = ("methods", "recipes", "encoders", "augmentations", "datasets", "experiments", "theories")
DATASETS = {
    "digits": "1,797 handwritten digits of scikit-learn, 8 x 8, built in",
    "FOLDER": "images at any depth; class subfolders, train/ and test/ are understood",
    "LIST.txt, LIST.csv": "paths of files and folders, in a .csv with the columns path, label, split (docs/images.md)",
    "'photos/**/*.jpg'": "a pattern in quotes: * is any part of a name, ** any folders",
    "FILE.npy, FILE.npz": "uint8 arrays, N H W C or N C H W, with labels y where the .npz has them",
    "FOLDER, 'x-{000..012}.tar'": "WebDataset shards (.tar): images, labels in .cls or .json",
    "hf:FOLDER, hf:OWNER/NAME": "Hugging Face data sets, in place or streamed (extra hf; options: docs/images.md)",
    "PACK": "what eigenview pack made of any of these: decoded once, mapped into memory",
    "CIFAR-10, CIFAR-100": "the folder that torchvision unpacks (cifar-10-batches-py, cifar-100-python)",
    "STL-10": "the folder stl10_binary",
}


def main(args: list[str]) -> int:
    """Print one list; without a name, the names of the lists."""
    if not args or args[0] in ("-h", "--help"):
        write(f"usage: eigenview list {{{','.join(LISTS)}}}")
        return 0
    if args[0] == "objectives":
        raise UserError("list objectives: it is named methods now: eigenview list methods")
    if args[0] not in LISTS:
        raise UserError(f"list {args[0]}: no such list. {hint(args[0], LISTS)}Lists: {', '.join(LISTS)}.")
    for name, text in entries(args[0]):
        write(f"{name:24} {text}")
    return 0


def entries(what: str) -> list[tuple[str, str]]:
    """Name and description of each entry of one of LISTS; a list imports only what it shows.

    Raises:
        UserError: `experiments` outside the source checkout.
    """
    if what == "methods":
        from eigenview.methods import METHODS, card

        return [(name, card(name).summary) for name in METHODS]
    if what == "recipes":
        from eigenview.recipes import RECIPES

        return list(RECIPES.items())
    if what == "augmentations":
        from eigenview.data.views.presets import KINDS, PRESETS

        kinds = [(name, kind.why) for name, kind in KINDS.items()]
        return [*kinds, *((name, preset.summary) for name, preset in PRESETS.items())]
    if what == "datasets":
        return list(DATASETS.items())
    if what == "experiments":
        from eigenview.commands.experiment import load_frame

        return list(load_frame("list experiments").experiments().items())
    if what == "theories":
        from eigenview.simulations import THEORIES

        return [(name, text) for name, (_, text) in THEORIES.items()]
    from eigenview.models.encoders import list_encoders

    return [(row.name, row.note) for row in list_encoders()]
