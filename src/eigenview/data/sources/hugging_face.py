"""Hugging Face data sets: Arrow files read in place, Parquet and image folders through `datasets`, or a stream.

    hf:PATH_OR_NAME[?split=NAME&image=COLUMN&label=COLUMN&config=NAME&streaming=1&buffer=ROWS]

PATH is a folder that `save_to_disk` wrote, or one of Parquet, Arrow or image files as `load_dataset` reads them; NAME
is OWNER/NAME on the Hub. Defaults: split "train" to train on, "test" or "validation" to test on; the only image column;
the label of column "label", or of the only column of class labels; a buffer of 4,096 rows.

Map style: every image is found in its Arrow file once, by offset, and read there in any order, as an image in a shard
is (shards.py); order and resuming are those of a folder. `datasets` first writes Parquet out as Arrow, in its cache.
Streaming: nothing is written out; see streams.py.

No code of a data set is run: trust_remote_code is never passed, `datasets` below 4, which still had loading scripts, is
refused, and so is every reader of `datasets` but those of Parquet, Arrow and image files. Images are decoded by
decode.py. Where a row has a path instead of an image, only a regular local file is read.
"""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from eigenview import runfiles
from eigenview.data.images import ImageSet, Split, printable
from eigenview.data.opening import at_home, kind_of, read_regular
from eigenview.data.sources.files import read_part
from eigenview.data.sources.folder import Part, splits_of
from eigenview.data.sources.hugging_face_rows import Columns, choose_columns, indexed, stamped
from eigenview.data.sources.source import Loaded, Request
from eigenview.data.sources.streams import Origin, Sample, Stream, empty, load_stream
from eigenview.data.sources.tiles import refuse_tiles
from eigenview.data.splitting import same_classes
from eigenview.errors import UserError, nearest, require
from eigenview.hub import cache_only, why_unreachable
from eigenview.runfiles.schema import OBJECT, TEXT, Fields, ListOf, Maybe, misfit
from eigenview.terminal import Console

PREFIX = "hf:"
OPTIONS = ("split", "image", "label", "config", "streaming", "buffer")
STATE = Fields(required={"_data_files": ListOf(OBJECT)}, optional={"_split": Maybe(TEXT)})
"""state.json of save_to_disk."""
_INSTALL = "uv sync --extra hf, or pip install 'eigenview[hf]'"


@dataclass(frozen=True)
class HuggingFace:
    """A data set of the Hugging Face library as a source of images."""

    spec: str
    place: str
    """A folder, or OWNER/NAME on the Hub."""
    split: str | None = None
    image: str | None = None
    label: str | None = None
    config: str | None = None
    is_streaming: bool = False
    buffer: int = 4096
    loaded: Loaded = field(default_factory=Loaded, init=False, repr=False, compare=False)

    def load(self, split: Split, request: Request) -> ImageSet:
        """Rows whose image cannot be decoded are skipped and listed.

        Raises UserError where `datasets` is missing or cannot read the data, for an unknown split or column, a column
        without images, an empty split, and as a folder does for images that cannot be decoded.
        """
        return self.loaded.get(split, request) or self.loaded.keep(split, request, self._load(split, request))

    def _load(self, split: Split, request: Request) -> ImageSet:
        console = request.console or Console(stderr=True)
        with _one_line_errors(self.spec), _silenced(), console.waiting(f"opening {printable(self.spec)}"):
            opened = _opened(self)
            names = self._chosen(tuple(opened), split)
            tables = [opened[name]() for name in names]
            columns = choose_columns(tables[0].data.features or {}, self.image, self.label, self.spec)
        suffix = f"/{names[0]}" if len(names) < len(opened) else ""
        return (self._streamed if self.is_streaming else self._mapped)(tables, columns, suffix, request)

    def labelled_pair(self, request: Request) -> tuple[ImageSet, ImageSet] | None:
        if self.split is not None:
            return None
        with _one_line_errors(self.spec), _silenced():
            kinds = splits_of(tuple(_opened(self)))
        if "train" not in kinds or len(kinds) < 2:
            return None
        train = self.load("train", request)
        test = self.load("test", request.like(train))
        return None if train.labels is None or test.labels is None else same_classes(train, test)

    def _chosen(self, names: tuple[str, ...], split: Split) -> tuple[str, ...]:
        """The names of the splits that make up `split`."""
        if self.split is not None:
            suggestion = nearest(self.split, names)
            require(self.split in names, f"{self.spec}: split", self.split, ", ".join(names), suggestion)
            names = (self.split,)
        kinds = splits_of(names)
        if split == "test" and self.split is None:
            test = kinds.get("test") or kinds.get("val")
            if test is not None:
                return (test,)
        if split == "test":
            raise UserError(f"{self.spec} has no test images; give some with --probe-data.")
        if split == "all" or len(names) == 1:
            return names
        if "train" in kinds:
            return (kinds["train"],)
        raise UserError(f"{self.spec} has the splits {', '.join(names)}; name one to train on: split={names[0]}.")

    def _mapped(self, tables: list[_Table], columns: Columns, suffix: str, request: Request) -> ImageSet:
        with _one_line_errors(self.spec):
            rows = [row for table in tables for file in table.files for row in indexed(file, columns, self.place)]
        if len(rows) != sum(len(table.data) for table in tables):
            raise UserError(f"{self.spec} is a selection from its files; save it again with save_to_disk.")
        if not rows:
            raise empty(self.spec)
        part = Part(
            root=Path(self.place),
            files=tuple(row.file for row in rows),
            label_names=(),
            notes=columns.notes,
            pieces=tuple(row.path for row in rows),
            labels=tuple(row.label for row in rows),
            what=f"{PREFIX}{columns.image}{suffix}",
        )
        return read_part(part, Path(self.spec), f"{Path(self.place).name}{suffix}", (), request)

    def _streamed(self, tables: list[_Table], columns: Columns, suffix: str, request: Request) -> ImageSet:
        refuse_tiles(request.reading.fit, f"{self.spec} is streamed")
        datasets = _library()
        origin = Origin(
            spec=self.spec,
            name=f"{Path(self.place).name}{suffix}",
            place=Path(self.place),
            files=tuple(stamped(file, self.place) for table in tables for file in table.files),
            what=f"{PREFIX}stream {columns.image} {columns.label}{suffix}",
            notes=columns.notes,
        )
        with _one_line_errors(self.spec):
            rows = datasets.concatenate_datasets([table.data.select_columns(columns.names()) for table in tables])
            rows = rows.with_format("arrow")  # images as they are stored: they are decoded by decode.py

        def samples_from(row: int) -> Iterator[Sample]:
            # IterableDataset.skip would be shorter, but in datasets 4.8.5 it goes on at a wrong row
            seen = 0
            with _one_line_errors(self.spec):
                for batch in _quietly(rows.iter(batch_size=256)):
                    if seen + len(batch) > row:
                        yield from map(columns.sample, batch.slice(max(row - seen, 0)).to_pylist())
                    seen += len(batch)

        return load_stream(Stream(origin, samples_from), self.buffer, request)


def find_hugging_face(spec: str) -> HuggingFace | None:
    """The data set that `spec` names, or None where it does not begin with hf:. Raises UserError for a bad option."""
    if not spec.startswith(PREFIX):
        return None
    place, _, query = spec.removeprefix(PREFIX).partition("?")
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        require(name in OPTIONS, f"{spec}: option", name, ", ".join(OPTIONS), nearest(name, OPTIONS))
        require(name not in given and value != "", f"{spec}: {name}", value, "one value that is not empty")
        given[name] = value
    streaming, buffer = given.pop("streaming", "0"), given.pop("buffer", "4096")
    require(streaming in ("0", "1"), f"{spec}: streaming", streaming, "0 or 1")
    is_number = buffer.isascii() and buffer.isdigit() and len(buffer) < 10
    require(is_number and int(buffer) > 0, f"{spec}: buffer", buffer, "rows, 1 or more, up to 999,999,999")
    path = at_home(place)
    if place and kind_of(path) == "folder":
        place = str(path.resolve())
    elif not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", place):
        raise UserError(
            f"{spec}: {place!r} is neither a folder that exists nor OWNER/NAME of a data set on the Hub. "
            "Write hf:FOLDER, where save_to_disk wrote one or Parquet files lie, or hf:OWNER/NAME."
        )
    return HuggingFace(spec, place, is_streaming=streaming == "1", buffer=int(buffer), **given)


def _library() -> Any:
    """The module `datasets`. Raises UserError where it is missing, or so old that it runs loading scripts."""
    try:
        import datasets  # takes seconds, so only when it is needed
    except ImportError as error:
        raise UserError(f"hf: needs the package datasets ({error}): {_INSTALL}.") from error
    version = datasets.__version__
    require(int(version.split(".")[0]) >= 4, "the version of datasets", version, "4 or newer", f"Run {_INSTALL}.")
    return datasets


@contextlib.contextmanager
def _one_line_errors(spec: str) -> Iterator[None]:
    """Turns what `datasets` and pyarrow raise about the data into a UserError of one line."""
    datasets = _library()
    import pyarrow as pa

    # the library takes values of its files as they are: one of another kind ends in any of these
    known = (OSError, ValueError, TypeError, LookupError, RuntimeError, AttributeError, ArithmeticError, MemoryError)
    known += (AssertionError, pa.ArrowException)
    try:
        yield
    except UserError:
        raise
    except (*known, datasets.exceptions.DatasetsError) as error:
        lines = str(error.__cause__ or error).strip().splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise UserError(
            f"{spec} cannot be read by datasets {datasets.__version__}: {reason}. "
            "It takes folders of save_to_disk, Parquet, Arrow or image files, and names on the Hub."
        ) from error


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Silences the log lines and progress bars of `datasets`: its errors are reported once, as a UserError."""
    datasets = _library()
    verbosity, had_bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            datasets.logging.set_verbosity(verbosity)
            if had_bars:
                datasets.enable_progress_bars()


def _quietly(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches; `datasets` logs nothing while it reads one."""
    while True:
        with _silenced():
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


class _Table(NamedTuple):
    """A split as `datasets` gives it."""

    data: Any
    """datasets.Dataset, or datasets.IterableDataset for streaming."""
    files: tuple[str, ...]
    """The files it comes from."""


def _opened(source: HuggingFace) -> dict[str, Callable[[], _Table]]:
    """{split name: function that reads the split}."""
    place = Path(source.place)
    if kind_of(place / "dataset_dict.json") == "file":
        names = _described(place / "dataset_dict.json", Fields(required={"splits": ListOf(TEXT)}))["splits"]
        return {name: functools.partial(_saved, source, place / name) for name in names}
    if kind_of(place / "state.json") == "file" == kind_of(place / "dataset_info.json"):
        name = _described(place / "state.json", STATE).get("_split") or "train"
        return {name: functools.partial(_saved, source, place)}
    return _built(source)


def _described(path: Path, kind: Fields) -> dict[str, Any]:
    """A JSON file that save_to_disk wrote. Raises ValueError with the first field that is of another kind."""
    content = runfiles.parse_json(read_regular(path))
    found = misfit(content, kind)
    if found is not None:
        raise ValueError(f"{path.name} is damaged: {found}")
    return content


def _saved(source: HuggingFace, folder: Path) -> _Table:
    """What save_to_disk wrote into `folder`."""
    if not _described(folder / "state.json", STATE)["_data_files"]:
        raise empty(source.spec)  # datasets cannot open it
    return _table(_library().load_from_disk(str(folder), keep_in_memory=False), source)


def _table(data: Any, source: HuggingFace) -> _Table:
    files = tuple(each["filename"] for each in data.cache_files)
    return _Table(data.to_iterable_dataset() if source.is_streaming else data, files)


def _built(source: HuggingFace) -> dict[str, Callable[[], _Table]]:
    """What load_dataset reads, by its readers of Parquet, Arrow and image files, and from its cache, alone."""
    from datasets.packaged_modules.arrow.arrow import Arrow
    from datasets.packaged_modules.cache.cache import Cache
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
    from datasets.packaged_modules.parquet.parquet import Parquet

    builder = _builder(source)
    if not isinstance(builder, Arrow | Cache | ImageFolder | Parquet):
        kind = type(builder).__mro__[1].__name__
        raise UserError(
            f"{source.spec} would be read by the reader {kind}; only those of Parquet, Arrow and image files are used. "
            "Save it with save_to_disk, or give a folder of images or .tar shards without hf:."
        )
    return _splits_of(builder, source)


def _builder(source: HuggingFace) -> Any:
    """The data set as `datasets` describes it; one on the hub comes from its cache if the hub does not answer."""
    datasets = _library()
    silent = "" if kind_of(Path(source.place)) == "folder" else why_unreachable()
    if not silent:
        return datasets.load_dataset_builder(source.place, source.config)
    try:
        with cache_only(datasets.config):
            return datasets.load_dataset_builder(source.place, source.config)
    except OSError as error:
        raise UserError(
            f"{source.spec}: it is not in the cache of datasets, and {silent}. On a machine with a network, save it "
            f"with datasets.load_dataset({source.place!r}).save_to_disk('FOLDER'), copy that here and give hf:FOLDER."
        ) from error


def _splits_of(builder: Any, source: HuggingFace) -> dict[str, Callable[[], _Table]]:
    sources = {str(name): tuple(files) for name, files in (builder.config.data_files or {}).items()}
    if source.is_streaming and sources:  # its cache names no files
        return {
            name: lambda name=name: _Table(builder.as_streaming_dataset(split=name), sources[name]) for name in sources
        }
    builder.download_and_prepare()

    def prepared(name: str) -> _Table:
        if not builder.info.splits[name].num_examples:
            raise empty(source.spec)  # datasets cannot open it
        return _table(builder.as_dataset(split=name), source)

    return {name: functools.partial(prepared, name) for name in builder.info.splits}
