"""A CSV file of labels (csv_table.py): path, label and, where a column of that name is there, split."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from eigenview.data.images import File, printable
from eigenview.data.opening import kind_of
from eigenview.data.sources.csv_table import Row, read_table, refuse_rows
from eigenview.data.sources.folder import SPLITS
from eigenview.errors import UserError, nearest

WORDS = ("auto", "none")
"""Values of --labels that are no file; a file of that name is written ./none."""


@dataclass(frozen=True, kw_only=True)
class LabelFile:
    """The rows of a CSV file, each with a path and a label that are not empty, and with a split or with none."""

    path: Path
    rows: tuple[Row, ...]
    has_header: bool
    has_split: bool
    file: File
    """Its name and size, with a checksum in the name: a resumed run notices other labels, not another time."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return printable(self.path.name)

    @property
    def test_split(self) -> str | None:
        """The split that probes test on: test, or without such rows val; None where neither is there."""
        found = {row.split for row in self.rows}
        return next((split for split in ("test", "val") if split in found), None)


def read_label_file(path: Path, *, are_all_labelled: bool = True) -> LabelFile:
    """The labels in `path`. Rows without a label are left out unless `are_all_labelled`.

    Raises: UserError for a file that is missing, has no column label, or has rows without a label or a known split,
    with their number and the first of them; and as `read_table`.
    """
    _require_file(path)
    table = read_table(path)
    if not table.has_label:
        found = f"its columns are {printable(', '.join(table.header))}. Name one label."
        alone = f"it has one column, such as {printable(table.rows[0].path)}. Add one of labels."
        raise UserError(f"{path} has no column label: {found if table.header else alone}")
    rows = table.rows if are_all_labelled else tuple(row for row in table.rows if row.label)
    advice = ": an image without a row is trained on and not probed"
    refuse_rows(path, rows, [row for row in rows if not row.label], "no label", advice)
    if table.has_split and rows:
        unknown = [row for row in rows if row.split not in SPLITS]
        refuse_rows(path, rows, unknown, "a split other than train, test and val")
        rows = tuple(row._replace(split=SPLITS[row.split]) for row in rows)
        if len({row.split == "train" for row in rows}) < 2:
            only = " and ".join(sorted({row.split for row in rows}))
            raise UserError(
                f"{path}: all rows have the split {only}; probes need train, and test or val. Mark rows of both, or "
                "leave the column split out: images are then split 80/20."
            )
    return LabelFile(
        path=path,
        rows=rows,
        has_header=bool(table.header),
        has_split=table.has_split,
        file=File(f"{path.name}, checksum {zlib.crc32(table.content):08x}", len(table.content), 0),
    )


def _require_file(path: Path) -> None:
    kind, allowed = kind_of(path), f"{', '.join(WORDS)}, or a CSV file with the columns path and label"
    if kind == "nothing":
        meant = nearest(str(path), WORDS)
        raise UserError(f"--labels {path}: there is no such file; allowed: {allowed}. {meant}".rstrip())
    if kind != "file":
        raise UserError(f"--labels {path} is no file; allowed: {allowed}.")
