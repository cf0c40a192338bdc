"""Hugging Face data sets that are refused or read with care: foreign code, paths, damage, and bad options."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from eigenview.config.reading import Reading
from eigenview.data.load import find_source, load_images
from eigenview.data.pixels.byte_ranges import as_piece, read_piece
from eigenview.data.sources.hugging_face import HuggingFace, find_hugging_face
from eigenview.data.sources.hugging_face_rows import Columns, indexed
from eigenview.errors import UserError
from tests.data.test_hugging_face import datasets, library, table, write_parquet, written  # noqa: F401
from tests.data.test_shards import png


def test_the_path_of_a_row_is_followed_only_to_a_regular_local_file(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(png(7))
    os.mkfifo(tmp_path / "pipe.png")  # opening it would block
    others = ["pipe.png", "gone.png"]
    paths = [str(tmp_path / "there.png"), *(str(tmp_path / name) for name in others)]
    paths += ["there.png", "https://example.org/a.png", f"{tmp_path / 'there.png'}\0x\0" + "0\0" * 2 + "9"]
    path_type = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    column = pa.array([{"bytes": None, "path": path} for path in paths], path_type)
    schema = pa.schema([pa.field("image", path_type)])
    file = tmp_path / "a.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    rows = list(indexed(str(file), Columns("image", None), str(tmp_path)))
    assert [row.path for row in rows][::2][:2] == [paths[0], paths[2]]
    pieces = [as_piece(row.path) for row in rows]
    assert [piece is not None for piece in pieces] == [False, True, False, True, True, True]
    assert all(piece.bytes == 0 for piece in pieces if piece is not None)
    sample = Columns("image", None).sample
    streamed = [sample({"image": {"bytes": None, "path": path}}).image for path in paths]
    assert streamed == [paths[0], None, paths[2], None, None, None]
    assert stat.S_ISFIFO((tmp_path / "pipe.png").stat().st_mode)


def test_slices_large_binaries_and_compressed_batches(tmp_path: Path) -> None:
    contents = [png(k) for k in range(6)]
    for kind, options in ((pa.binary(), {}), (pa.large_binary(), {}), (pa.binary(), {"compression": "zstd"})):
        schema = pa.schema([pa.field("image", kind)])
        batch = pa.record_batch([pa.array([b"zzz", *contents, None], kind)], schema=schema)
        file = tmp_path / f"{kind}-{len(options)}.arrow"
        with (
            pa.OSFile(str(file), "wb") as sink,
            pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer,
        ):
            for part in (batch.slice(1, 4), batch.slice(5)):
                writer.write_batch(part)
        if options:
            with pytest.raises(UserError, match=r"images are compressed.*save_to_disk"):
                list(indexed(str(file), Columns("image", None), str(tmp_path)))
            continue
        pieces = [as_piece(row.path) for row in indexed(str(file), Columns("image", None), str(tmp_path))]
        assert [read_piece(piece) for piece in pieces if piece is not None] == [*contents, b""]


@pytest.mark.parametrize("kind", ["saved", "parquet", "parquet, streamed"])
def test_damaged_files_are_one_line(tmp_path: Path, kind: str) -> None:
    spec = written(table(range(6)), tmp_path / "set", kind)
    for file in (tmp_path / "set").iterdir():
        if file.suffix in (".arrow", ".parquet"):
            file.write_bytes(b"nonsense" * 8)
    with pytest.raises(UserError, match=r"cannot be read by datasets .*save_to_disk, Parquet") as caught:
        load_images(spec)
    assert "\n" not in str(caught.value)


def test_a_stream_is_not_cut_into_tiles(tmp_path: Path) -> None:
    spec = written(table(range(6)), tmp_path / "set", "parquet, streamed")
    with pytest.raises(UserError, match=r"--fit tiles:2 cuts image files, and hf:.* is streamed .*with --fit pad"):
        load_images(spec, reading=Reading(fit="tiles:2"))


@pytest.mark.parametrize("content", ["[]", '{"_data_files": 5}', '{"_data_files": [1]}', "[" * 100_000, "{}"])
def test_a_description_of_another_kind_is_one_line(tmp_path: Path, content: str) -> None:
    spec = written(table(range(6)), tmp_path / "set", "saved")
    (tmp_path / "set" / "state.json").write_text(content)
    with pytest.raises(UserError, match="cannot be read by datasets") as error:
        load_images(spec, size=8)
    assert "\n" not in str(error.value)


def test_loading_scripts_and_other_readers_are_refused(tmp_path: Path) -> None:
    """Nothing of the data set's own is imported: not its script, not a script of another name, not a pickle."""
    proof = tmp_path / "it-ran"
    code = f"import pathlib; pathlib.Path({str(proof)!r}).touch()\n"
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "foreign.py").write_text(code)
    write_parquet(table(range(3)), tmp_path / "foreign" / "a.parquet")
    with pytest.raises(UserError, match=r"scripts are no longer supported.*foreign\.py"):
        load_images(f"hf:{tmp_path / 'foreign'}")
    (tmp_path / "foreign" / "foreign.py").rename(tmp_path / "foreign" / "other.py")
    assert len(load_images(f"hf:{tmp_path / 'foreign'}")) == 3
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.csv").write_text("image,label\na.png,0\n")
    with pytest.raises(UserError, match=r"Csv.*Parquet, Arrow and image"):
        load_images(f"hf:{tmp_path / 'texts'}")
    (tmp_path / "pickles").mkdir()
    (tmp_path / "pickles" / "a.pkl").write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(proof) + b"'\ntR.")
    with pytest.raises(UserError, match="cannot be read by datasets"):
        load_images(f"hf:{tmp_path / 'pickles'}")
    assert not proof.exists()


def test_trust_is_never_asked_for_and_old_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = written(table(range(3)), tmp_path / "set", "parquet")
    calls: list[dict[str, Any]] = []
    builder = datasets.load_dataset_builder

    def noted(*args: Any, **options: Any) -> Any:
        calls.append(options)
        return builder(*args, **options)

    monkeypatch.setattr(datasets, "load_dataset_builder", noted)
    load_images(spec)
    assert calls
    assert not [options for options in calls if "trust_remote_code" in options]
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(UserError, match=r"version of datasets is '3\.6\.0'; allowed: 4 or newer.*--extra hf"):
        load_images(spec)


def test_a_missing_extra_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(table(range(3)), tmp_path / "set", "saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"package datasets.*uv sync --extra hf.*pip install 'eigenview\[hf"):
        load_images(f"hf:{tmp_path / 'set'}")


def test_specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source("hf:owner/na-me.1?config=en&split=train&image=im%20g&label=y&streaming=1&buffer=64")
    assert source == HuggingFace(
        "hf:owner/na-me.1?config=en&split=train&image=im%20g&label=y&streaming=1&buffer=64",
        "owner/na-me.1",
        split="train",
        image="im g",
        label="y",
        config="en",
        is_streaming=True,
        buffer=64,
    )
    assert find_hugging_face("photos/") is None
    for spec, message in (
        ("hf:a/b?shuffle=1", "option is 'shuffle'; allowed: split, image"),
        ("hf:a/b?streming=1", "Did you mean streaming"),
        ("hf:a/b?split=", "split is ''; allowed: one value"),
        ("hf:a/b?split=a&split=b", "split is 'b'; allowed: one value"),
        ("hf:a/b?streaming=yes", "streaming is 'yes'; allowed: 0 or 1"),
        ("hf:a/b?streaming=1&buffer=0", "buffer is '0'; allowed: rows, 1 or more"),
        (f"hf:a/b?streaming=1&buffer={'9' * 5000}", "allowed: rows, 1 or more, up to 999,999,999"),
        ("hf:parquet", "'parquet'.*folder.*OWNER/NAME"),
        ("hf:../nothing/there", "'../nothing/there'.*folder.*OWNER/NAME"),
        ("hf:", "''.*folder.*OWNER/NAME"),
    ):
        with pytest.raises(UserError, match=message.replace("?", r"\?")):
            find_source(spec)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf:set").mkdir()
    (tmp_path / "hf:set" / "0.png").write_bytes(png(0))
    assert len(load_images("hf:set")) == 1  # a path that exists comes first


def test_a_name_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenview.data.sources.hugging_face.why_unreachable", lambda: "")

    def unreachable(*_: object) -> None:
        raise ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)\nmore")

    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    with pytest.raises(UserError, match=r"hf:a/b cannot be read by datasets .*Couldn't reach 'a/b' on the Hub"):
        load_images("hf:a/b")
