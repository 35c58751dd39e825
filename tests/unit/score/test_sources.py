"""The files of an input: all rows in order from any row on, and what becomes of lines that cannot be read."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.domain.image_processing import Preprocess
from gateway.score.errors import CannotScore
from gateway.score.sources.find import find_files, open_source
from gateway.score.sources.source import Source
from runtimes.contract import Signature, TensorSpec
from tests.support.image_files import noise, save

X = np.arange(100, dtype=np.float32).reshape(25, 4)
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), ())


def table() -> pa.Table:
    return pa.table({"id": range(25), "x": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 4)})


def parquet(folder: Path) -> None:
    pq.write_table(table(), folder / "a.parquet", row_group_size=7)
    pq.write_table(table().slice(0, 11), folder / "b.parquet", row_group_size=4)


def arrow(folder: Path) -> None:
    for name, rows in (("a", table()), ("b", table().slice(0, 11))):
        with pa.ipc.new_file(folder / f"{name}.arrow", rows.schema) as writer:
            writer.write_table(rows, max_chunksize=6)


def csv(folder: Path) -> None:
    for name, count in (("a", 25), ("b", 11)):
        lines = [f"{number},{json.dumps(json.dumps(X[number].tolist()))}" for number in range(count)]
        (folder / f"{name}.csv").write_text("\n".join(["id,x", *lines, ""]))


def json_lines(folder: Path) -> None:
    for name, count in (("a", 25), ("b", 11)):
        lines = [json.dumps({"id": number, "x": X[number].tolist()}) for number in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, "", ""]))


def npz(folder: Path) -> None:
    np.savez(folder / "a.npz", id=np.arange(36), x=np.concatenate([X, X[:11]]))


def compressed(folder: Path) -> None:
    np.savez_compressed(folder / "a.npz", id=np.arange(36), x=np.concatenate([X, X[:11]]))


KINDS: list[Callable[[Path], None]] = [parquet, arrow, csv, json_lines, npz, compressed]


def opened(*inputs: Any) -> Source:
    return open_source(*find_files([str(each) for each in inputs]), SIGNATURE, None)


def numbers(column: Any) -> list[list[float]]:
    return [json.loads(each) if isinstance(each, str) else each for each in column.to_pylist()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0, 1, 6, 7, 24, 25, 30, 35])
def test_all_rows_follow_in_order(kind: Callable[[Path], None], start: int, tmp_path: Path) -> None:
    kind(tmp_path)
    source = opened(tmp_path)
    assert source.rows in (36, None)
    chunks, at = list(source.chunks(start, 5)), start
    values: list[list[float]] = []
    for chunk in chunks:
        assert (chunk.start, chunk.bad, list(chunk.numbers)) == (at, [], list(range(at, chunk.end)))
        assert 0 < chunk.batch.num_rows <= 5
        assert chunk.batch.schema == source.schema
        values += numbers(chunk.batch.column("x"))
        at = chunk.end
    assert at == 36
    assert chunks[-1].position == source.size or kind is json_lines
    np.testing.assert_array_equal(np.array(values), np.concatenate([X, X[:11]])[start:])


def test_a_row_group_is_not_in_memory_as_a_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(4 << 20, np.float32)
    rows = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(values), 1 << 14)})
    pq.write_table(rows, tmp_path / "a.parquet")
    chunks, before = opened(tmp_path / "a.parquet").chunks(0, 8), pa.total_allocated_bytes()
    assert next(chunks).batch.num_rows == 8
    assert pa.total_allocated_bytes() - before < values.nbytes // 2


def test_broken_lines_are_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfid,x\r\n1,2\r\n\r\n1\r\n1,2,3\r\n"a\nb",5\r\n\xff,6\r\n')
    (chunk,) = opened(tmp_path / "a.csv").chunks(0, 100)
    assert [(each.row, each.reason) for each in chunk.bad] == [
        (1, "the line has 1 fields, and the header has 2"),
        (2, "the line has 3 fields, and the header has 2"),
        (4, "the line is not UTF-8"),
    ]
    assert chunk.batch.to_pydict() == {"id": ["1", "a\nb"], "x": ["2", "5"]}
    assert list(chunk.numbers) == [0, 3]
    (tmp_path / "a.jsonl").write_text('{"id": 1, "x": [1]}\nnonsense\n[1]\n\n{"id": "a", "x": 2}\n{"other": 1}\n')
    (chunk,) = opened(tmp_path / "a.jsonl").chunks(0, 100)
    assert [each.row for each in chunk.bad] == [1, 2]
    assert chunk.bad[1].reason == "the line is not a JSON object"
    assert chunk.batch.column("x").to_pylist() == ["[1]", "2", None]
    assert chunk.batch.column("id").to_pylist() == ["1", '"a"', None]


def test_a_value_of_another_kind_than_in_the_first_lines_is_a_bad_row(tmp_path: Path) -> None:
    lines = [json.dumps({"id": number, "x": 1.5}) for number in range(1000)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"id": "a"}', '{"id": 7, "x": 2}']))
    chunk = list(opened(tmp_path).chunks(1000, 10))[-1]
    assert [(each.row, each.reason) for each in chunk.bad] == [(1000, "'id' is \"a\", and int64 in the lines before")]
    assert chunk.batch.to_pylist() == [{"id": 7, "x": 2.0}]


def test_images_are_rows_and_broken_ones_are_bad(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.png", "sub/c.png"):
        (tmp_path / name).write_bytes(save(noise(4, 4)))
    (tmp_path / "c.png").write_text("nonsense")
    files, root = find_files([str(tmp_path)])
    source = open_source(files, root, Signature((TensorSpec("image", "BYTES", (-1,)),), ()), None)
    chunks = list(source.chunks(1, 2))
    names = [name for chunk in chunks for name in chunk.batch.column("file").to_pylist()]
    assert names == ["b.png", "c.png", "sub/c.png"]
    decoded = open_source(files, root, Signature((TensorSpec("image", "FP32", (-1, 2, 2, 3)),), ()), Preprocess((2, 2)))
    (chunk,) = decoded.chunks(0, 10)
    assert [(each.row, each.file) for each in chunk.bad] == [(2, "c.png")]
    assert chunk.bad[0].reason.startswith("the image")
    assert chunk.batch.column("file").to_pylist() == ["a.png", "b.png", "sub/c.png"]
    assert len(chunk.batch.column("image").flatten().flatten().flatten()) == 3 * 2 * 2 * 3
    with pytest.raises(CannotScore, match=r"add \[preprocess\]"):
        open_source(files, root, SIGNATURE, None)


@pytest.mark.parametrize("pattern", ["", "*"])
def test_links_that_lead_nowhere_are_bad_rows(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(save(noise(4, 4)))
    (tmp_path / "b.png").symlink_to("nothing.png")
    (tmp_path / "c.png").symlink_to("c.png")
    (tmp_path / "d.png").symlink_to("a.png")
    (tmp_path / "sub").mkdir()
    (tmp_path / "e.png").symlink_to("sub")  # a folder is no row
    files, root = find_files([str(tmp_path / pattern)])
    (chunk,) = open_source(files, root, Signature((TensorSpec("image", "BYTES", (-1,)),), ()), None).chunks(0, 10)
    assert chunk.batch.column("file").to_pylist() == ["a.png", "d.png"]
    assert [(each.row, each.file) for each in chunk.bad] == [(1, "b.png"), (2, "c.png")]
    assert chunk.end == chunk.batch.num_rows + len(chunk.bad) == 4


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "sub").mkdir()
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CannotScore, match="sub cannot be read: Permission denied"):
        find_files([str(tmp_path)])


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "has no files of a known kind"),
        ({"a.csv": "x\n", "b.jsonl": "{}"}, "has files of several kinds"),
        ({"a.csv": ""}, "has no first line that names the columns"),
        ({"a.csv": "x,x\n"}, "several columns of one name"),
        ({"a.csv": "x\n", "b.csv": "y\n"}, "has other columns than a.csv"),
        ({"a.parquet": "nonsense"}, "a.parquet cannot be read"),
        ({"a.npz": "nonsense"}, "a.npz cannot be read"),
        ({"a.jsonl": "nonsense"}, "has no JSON object"),
    ],
)
def test_what_is_no_input(files: dict[str, str], sentence: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(CannotScore) as error:
        opened(tmp_path)
    assert sentence in str(error.value)


def test_patterns_and_several_files(tmp_path: Path) -> None:
    parquet(tmp_path)
    assert opened(tmp_path / "*.parquet").rows == 36
    assert opened(tmp_path / "b.parquet", tmp_path / "a.parquet").rows == 36
    with pytest.raises(CannotScore, match="does not exist"):
        opened(tmp_path / "*.nothing")
