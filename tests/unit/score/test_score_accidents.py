"""Inputs, outputs and moments that a run of modelport score does not expect. The model is the fake one: y = 2x."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import modelport
from gateway.errors import InvalidRequest
from gateway.score import run as score_run
from gateway.score import sinks
from gateway.score.column_values import Target, read_rows
from gateway.score.errors import CannotScore
from gateway.score.parts import Parts, PartWriter
from gateway.score.run import ScoreRequest, score
from gateway.score.scorer import ScoreOptions
from gateway.score.sources.arrays import ArraysSource
from gateway.score.sources.csv_text import CsvSource
from gateway.score.sources.json_lines import JsonLinesSource
from gateway.score.sources.source import cannot_read
from tests.support.embedded_models import add_model, use_fake_runtime

LINE = '{"x": [1, 2, 3, 4]}\n'


class Watching:
    """Calls a function after each batch."""

    def __init__(self, after: Callable[[int], None] = lambda rows: None) -> None:
        self._after = after
        self.earlier = -1

    def begin(self, source: Any, scorer: Any, done: int) -> None:
        self.earlier = done

    def advance(self, rows: int, bad: int, position: int) -> None:
        self._after(rows)


def stop(rows: int) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_fake_runtime(monkeypatch, tmp_path)


@pytest.fixture
def asked(tmp_path: Path) -> ScoreRequest:
    """Three batches of two rows, in in/0.jsonl, to in/out.jsonl."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.jsonl").write_text(LINE * 6)
    spec = modelport.ModelSpec(add_model(tmp_path, toml="max_batch_size = 8\nwarmup = 0\n"))
    return ScoreRequest(spec, (str(tmp_path / "in"),), tmp_path / "in/out.jsonl", batch_rows=2)


def written(tmp_path: Path, suffix: str, column: pa.Array) -> Path:
    output = tmp_path / f"out{suffix}"
    batch = pa.record_batch({"k": column})
    sinks.write(output, batch.schema, lambda: iter([batch]), batch.num_rows)
    return output


# ----- the files of a run


def test_what_a_run_writes_is_not_its_input(asked: ScoreRequest) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(asked, Watching(stop))
    assert list(asked.output.parent.glob("out.jsonl.parts/part-*.arrow"))
    again = Watching()
    assert score(asked, again)[:3] == (6, 6, 0)
    assert again.earlier > 0
    assert score(replace(asked, overwrite=True), Watching()).read == 6
    for request in (
        replace(asked, inputs=(str(asked.output),), overwrite=True),
        replace(asked, inputs=("in/0.jsonl",), output=Path("out.csv"), bad=Path("in/0.jsonl")),
    ):
        with pytest.raises(CannotScore, match="is an input, and would be written"):
            score(request, Watching())


def test_a_changed_input_is_noticed_though_its_time_and_size_are_the_same(asked: ScoreRequest) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(asked, Watching(stop))
    file = asked.output.parent / "0.jsonl"
    before = file.stat()
    file.write_text(LINE.replace("1", "7") * 6)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CannotScore, match="the input has changed since"):
        score(asked, Watching())


def test_an_input_that_changes_during_the_run_makes_no_output(asked: ScoreRequest) -> None:
    def change(rows: int) -> None:
        (asked.output.parent / "0.jsonl").write_text(LINE * 7)

    with pytest.raises(CannotScore, match="the input has changed while it was read"):
        score(asked, Watching(change))
    assert not asked.output.exists()


def test_parts_that_were_scored_in_batches_are_not_mixed_with_others(asked: ScoreRequest) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(asked, Watching(stop))
    alone = replace(asked, spec=replace(asked.spec, max_batch_size=0))
    with pytest.raises(CannotScore, match="the options has changed"):
        score(alone, Watching())


def test_an_output_that_another_run_has_just_written_is_not_replaced(asked: ScoreRequest) -> None:
    real, calls = score_run._identity, list[int]()

    def identity(*arguments: Any) -> Any:
        calls.append(1)
        asked.output.write_text("another run's")
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(score_run, "_identity", identity)
        with pytest.raises(CannotScore, match="exists already"):
            score(asked, Watching())
    assert calls
    assert asked.output.read_text() == "another run's"


def test_a_lock_in_a_folder_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, real, opened = tmp_path / "out.csv", fcntl.flock, list[int]()

    def flock(file: Any, operation: int) -> None:
        opened.append(1)
        if len(opened) == 1:  # the run that held it ends between our open and our lock
            (tmp_path / "out.csv.parts/lock").unlink()
            (tmp_path / "out.csv.parts").rmdir()
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Parts(output, {}, False):
        assert len(opened) == 2
        with pytest.raises(CannotScore, match="another process writes"):
            Parts(output, {}, False)


def test_parts_whose_removal_was_interrupted_count_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.csv"
    with Parts(output, {}, False) as parts:
        for end in (1, 2):
            part = parts.new_part()
            part.add(end, pa.record_batch({"y": [end]}), [])
            part.commit()
        half = parts.folder / "part-000000000000.arrow"
        with monkeypatch.context() as interrupted:
            interrupted.setattr(shutil, "rmtree", lambda *_, **__: half.unlink())
            parts.remove()
    with Parts(output, {}, False) as parts:
        assert parts.done == []


@pytest.mark.parametrize("step", ["add", "commit"])
def test_a_full_disk_is_a_sentence(asked: ScoreRequest, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartWriter, step, full)
    with pytest.raises(CannotScore, match=r"out\.jsonl\.parts cannot be written: No space left on device"):
        score(asked, Watching())


def test_outputs_that_cannot_be_written_are_refused_at_once(asked: ScoreRequest, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for request, sentence in (
        (replace(asked, output=tmp_path / "nowhere/out.csv"), "does not exist; create it first"),
        (replace(asked, output=tmp_path / "folder.csv", overwrite=True), "is a folder; name a file"),
        (replace(asked, bad=tmp_path / "folder.csv"), "is a folder; name a file"),
        (replace(asked, bad=asked.output), "is named as the output and as the file for bad rows"),
    ):
        with pytest.raises(CannotScore, match=sentence):
            score(replace(request, spec=modelport.ModelSpec("no model is loaded for this")), Watching())


# ----- names


def test_names_of_files_need_not_be_unique_or_utf8(asked: ScoreRequest, tmp_path: Path) -> None:
    for folder in (b"a", b"b\xff"):
        os.mkdir(os.path.join(os.fsencode(tmp_path), folder))
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), folder, b"1.csv"))).write_text('x\n"[1]"\n')
    request = replace(asked, inputs=(str(tmp_path / "a"), os.fsdecode(b"b\xff/1.csv")))
    assert score(request, Watching())[:3] == (2, 0, 2)
    lines = [json.loads(line) for line in request.bad_file.read_text().splitlines()]
    assert [(line["row"], line["file"]) for line in lines] == [(0, "a/1.csv"), (1, "b\\xff/1.csv")]


@pytest.mark.parametrize("location", ["~nobody-has-this-name/x.csv", "x" * 5000 + ".csv"])
def test_odd_inputs_do_not_exist(asked: ScoreRequest, location: str) -> None:
    with pytest.raises(CannotScore, match="does not exist"):
        score(replace(asked, inputs=(location,)), Watching())


def test_an_output_that_the_model_lacks_is_an_error_and_not_a_bad_row(asked: ScoreRequest) -> None:
    with pytest.raises(InvalidRequest, match="the model has no output 'z'; it has y"):
        score(replace(asked, options=ScoreOptions(outputs=("y", "z"))), Watching())


# ----- values of inputs


def read(values: Sequence[Any], datatype: str, kind: pa.DataType | None = None) -> tuple[list[Any], set[int]]:
    rows = read_rows(pa.array(values, kind), Target("x", datatype, ()))
    good = [np.asarray(value).tolist() for number, value in enumerate(rows.values) if number not in rows.bad]
    return good, set(rows.bad)


def test_decimals_keep_all_digits() -> None:
    big = 2**53 + 1
    assert read([Decimal(big), Decimal("1.5"), Decimal(-2)], "INT64", pa.decimal128(20, 1)) == ([big, -2], {1})
    assert read([Decimal(big)], "UINT64", pa.decimal128(20, 0)) == ([big], set())
    assert read([Decimal("1.25")], "FP64", pa.decimal128(20, 2)) == ([1.25], set())


def test_texts_that_are_too_large_or_not_plain_numbers_are_bad() -> None:
    assert read(["1e400", "inf", "-Infinity", "1_0", "１", "1.5"], "FP64") == ([np.inf, -np.inf, 1.5], {0, 3, 4})


def test_views_are_strings_and_numbers() -> None:
    assert read(["a", "b"], "BYTES", pa.string_view()) == (["a", "b"], set())
    assert read(["1", "x"], "INT32", pa.string_view()) == ([1], {1})


def test_a_quote_that_is_not_closed_is_a_bad_row(tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text('x,y\n1,2\n3,"4\n5,6\n')
    [chunk] = CsvSource([file]).chunks(0, 10)
    assert chunk.batch.to_pydict() == {"x": ["1"], "y": ["2"]}
    assert [bad.row for bad in chunk.bad] == [1]
    assert chunk.bad[0].reason.startswith("the line is not CSV")


def test_integers_beyond_64_bits_with_sign_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"k": 18446744073709551615}\n{"k": -1}\n{"k"\n')
    [chunk] = JsonLinesSource([file]).chunks(0, 10)
    assert chunk.batch.to_pydict() == {"k": ["18446744073709551615", "-1"]}
    assert chunk.bad[0].reason.startswith("the line is not valid JSON")


def test_a_single_value_is_no_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32(3))
    with pytest.raises(CannotScore, match=r"'x' of .* is a single value; the first dimension of an array counts rows"):
        ArraysSource(tmp_path / "x.npy")


# ----- values of outputs


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([0.1, None, np.inf, np.nan], pa.float32()), ["0.1", "null", "Infinity", "NaN"]),
        (pa.array([[0.1, None], None, []], pa.list_(pa.float32())), ["[0.1,null]", "null", "[]"]),
        (pa.array([[[1.0], [2.0, -np.inf]], []], pa.list_(pa.list_(pa.float64()))), ["[[1.0],[2.0,-Infinity]]", "[]"]),
        (pa.array([{"a": np.nan}, {"a": 1.5}]), ['{"a":NaN}', '{"a":1.5}']),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), ['[["a",1]]']),
        (pa.array([1.5, None], pa.float16()), ["1.5", "null"]),
    ],
)
def test_json_lines_keep_each_value(tmp_path: Path, column: pa.Array, expected: list[str]) -> None:
    lines = written(tmp_path, ".jsonl", column).read_text().splitlines()
    assert lines == [f'{{"k":{each}}}' for each in expected]


def test_csv_holds_views(tmp_path: Path) -> None:
    assert written(tmp_path, ".csv", pa.array(["a", None], pa.string_view())).read_text() == '"k"\n"a"\n\n'


def test_nulls_are_no_numbers_of_an_npz(asked: ScoreRequest, tmp_path: Path) -> None:
    x = pa.array([[1.0, 2.0, 3.0, 4.0]] * 2, pa.list_(pa.float32()))
    for column in (pa.array([1, None]), pa.array([[1, 2], None], pa.list_(pa.int64(), 2))):
        pq.write_table(pa.table({"x": x, "k": column}), tmp_path / "in.parquet")
        request = replace(asked, inputs=("in.parquet",), output=tmp_path / "out.npz")
        with pytest.raises(CannotScore, match="cannot hold the nulls of column 'k': leave it out with --keep"):
            score(request, Watching())


def test_columns_that_a_format_lacks_are_refused_before_anything_is_scored() -> None:
    schema = pa.schema([("k", pa.month_day_nano_interval())])
    with pytest.raises(CannotScore, match=r"\.parquet cannot hold column 'k'"):
        sinks.check_schema(Path("out.parquet"), schema)
    sinks.check_schema(Path("out.jsonl"), schema)


def damage(file: Path, compressed: bool) -> None:
    """Write an npz whose directory is right and whose values are not."""
    (np.savez_compressed if compressed else np.savez)(file, x=np.arange(1000, 5000, dtype=np.float32).reshape(-1, 4))
    data = bytearray(file.read_bytes())
    data[2000:2400] = b"\xff" * 400
    file.write_bytes(data)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_archive_is_a_sentence(asked: ScoreRequest, tmp_path: Path, compressed: bool) -> None:
    damage(tmp_path / "in.npz", compressed)
    request = replace(asked, inputs=("in.npz",), batch_rows=100)
    with pytest.raises(CannotScore, match=r"in\.npz cannot be read: "):
        score(request, Watching())


def test_an_error_without_words_is_named() -> None:
    assert str(cannot_read(Path("x.npz"), EOFError())) == "x.npz cannot be read: EOFError"


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.timestamp("ns"), [1, None], ["1970-01-01 00:00:00.000000001", None]),
        (pa.time64("ns"), [1, None], ["00:00:00.000000001", None]),
        (pa.list_(pa.timestamp("ns")), [[1], None], [["1970-01-01 00:00:00.000000001"], None]),
        (pa.date32(), [10**7, None], ["29349-01-26", None]),
    ],
)
def test_times_that_python_does_not_have_are_texts(
    kind: pa.DataType, values: list[Any], expected: list[Any], tmp_path: Path
) -> None:
    """They ended the command with a traceback, after all rows had been scored."""
    lines = written(tmp_path, ".jsonl", pa.array(values, kind)).read_text().splitlines()
    assert [json.loads(line)["k"] for line in lines] == expected
    assert written(tmp_path, ".csv", pa.array(values, kind)).exists()


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()], ids=str)
def test_views_are_kept_beside_bad_rows(kind: pa.DataType, tmp_path: Path) -> None:
    x = [[1.0, 2.0, 3.0, 4.0], [1.0], [5.0, 6.0, 7.0, 8.0]]
    table = pa.table({"k": pa.array(["a", "b", "c"], kind), "x": x})
    with pa.ipc.new_file(tmp_path / "in.arrow", table.schema) as file:
        file.write_table(table)
    spec = modelport.ModelSpec(add_model(tmp_path, toml="warmup = 0\n"))
    output = tmp_path / "out.parquet"
    assert score(ScoreRequest(spec, (str(tmp_path / "in.arrow"),), output), Watching())[:3] == (3, 2, 1)
    assert pq.read_table(output)["k"].cast(pa.binary()).to_pylist() == [b"a", b"c"]


def test_an_integer_that_floats_do_not_have_is_not_rounded_beside_one_with_a_point() -> None:
    rows = read_rows(pa.array(["[9007199254740993]", "[1.0]"]), Target("x", "INT64", (1,)))
    assert (np.array(rows.values).tolist(), rows.bad) == ([[9007199254740993], [1]], {})


@pytest.mark.parametrize(
    "column",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([1.0, 2.0])),
        pa.DictionaryArray.from_arrays(pa.array([0, 0, 0], pa.int32()), pa.array([[1.0]])),
    ],
    ids=["runs", "lists"],
)
def test_columns_of_which_arrow_takes_no_rows_are_refused_before_the_first(column: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"k": column, "x": [[1.0, 2.0, 3.0, 4.0], [1.0], [5.0, 6.0, 7.0, 8.0]]})
    with pa.ipc.new_file(tmp_path / "in.arrow", table.schema) as file:
        file.write_table(table)
    spec = modelport.ModelSpec(add_model(tmp_path, toml="warmup = 0\n"))
    request = ScoreRequest(spec, (str(tmp_path / "in.arrow"),), tmp_path / "out.jsonl")
    with pytest.raises(InvalidRequest, match=r"column 'k' .* cannot be kept"):
        score(request, Watching())
    assert score(replace(request, options=ScoreOptions(keep=())), Watching())[:3] == (3, 2, 1)
