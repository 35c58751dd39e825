"""Whole runs with a model of the fake runtime: y = 2x; an element of 400 is invalid, 500 an error, 666 kills."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import modelport
from gateway.errors import InvalidRequest, Unavailable
from gateway.score import run as score_run
from gateway.score import sinks
from gateway.score.errors import CannotScore
from gateway.score.parts import Parts
from gateway.score.run import ScoreRequest, score
from gateway.score.scorer import ScoreOptions, Scorer, Submitted
from gateway.score.sources.json_lines import JsonLinesSource
from tests.support.embedded_models import add_model, use_fake_runtime

BAD_VALUES = {3: 400.0, 50: 500.0, 77: 501.0}
KILLS = 666.0
COUNT = 120


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_fake_runtime(monkeypatch, tmp_path)


class Quiet:
    """Stops the run after some rows, as Ctrl-C would."""

    def __init__(self, stop_after: int = 1 << 62) -> None:
        self._stop_after = stop_after
        self.done = -1

    def begin(self, source: Any, scorer: Scorer, done: int) -> None:
        self.done = done

    def advance(self, rows: int, bad: int, position: int) -> None:
        if rows >= self._stop_after:
            raise KeyboardInterrupt


def rows(bad: dict[int, float] = BAD_VALUES) -> np.ndarray:
    x = np.arange(4 * COUNT, dtype=np.float32).reshape(-1, 4) + 1000
    for row, value in bad.items():
        x[row, 1] = value
    return x


def write_input(folder: Path, x: np.ndarray) -> Path:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 4)
    pq.write_table(pa.table({"id": range(len(x)), "x": lists}), folder / "in.parquet", row_group_size=32)
    return folder / "in.parquet"


def request(folder: Path, suffix: str = ".parquet", location: str = "", **options: Any) -> ScoreRequest:
    location = location or add_model(folder, toml="max_batch_size = 8\nwarmup = 0\n")
    spec = modelport.ModelSpec(location)
    return ScoreRequest(spec, (str(folder / "in.parquet"),), folder / f"out{suffix}", batch_rows=20, **options)


def check_lines(file: Path, expected: set[int]) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {line["row"] for line in lines} == expected
    assert all(line["reason"] for line in lines)


def test_rows_are_scored_in_order_and_bad_ones_reported(tmp_path: Path) -> None:
    x = rows({**BAD_VALUES, 77: KILLS})
    write_input(tmp_path, x)
    summary = score(request(tmp_path), Quiet())
    assert summary[:4] == (COUNT, COUNT - 3, 3, 0)
    table = pq.read_table(tmp_path / "out.parquet")
    good = [row for row in range(COUNT) if row not in BAD_VALUES]
    assert table.column_names == ["id", "y"]
    assert table["id"].to_pylist() == good
    np.testing.assert_array_equal(np.array(table["y"].to_pylist()), 2 * x[good])
    check_lines(tmp_path / "out.bad.jsonl", set(BAD_VALUES))
    assert not (tmp_path / "out.parquet.parts").exists()
    assert sorted(each.name for each in tmp_path.glob("*out*")) == ["out.bad.jsonl", "out.parquet"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".arrow"])
def test_kept_categories_may_differ_between_files(tmp_path: Path, suffix: str) -> None:
    files = []
    for name, kinds in (("a", ["red", "blue", "red"]), ("b", ["green", "red", None])):
        x = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(12, np.float32)), 4)
        files.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table({"k": pa.array(kinds).dictionary_encode(), "x": x}), files[-1])
    asked = replace(request(tmp_path, suffix), inputs=tuple(map(str, files)))
    assert score(asked, Quiet()).bad == 0
    if suffix == ".jsonl":
        kept = [json.loads(line)["k"] for line in asked.output.read_text().splitlines()]
    elif suffix == ".csv":
        with asked.output.open() as text:
            kept = [each["k"] or None for each in csv.DictReader(text)]
    else:
        read = pq.read_table if suffix == ".parquet" else lambda path: pa.ipc.open_file(path).read_all()
        kept = read(asked.output)["k"].to_pylist()
    assert kept == ["red", "blue", "red", "green", "red", None]


def test_all_formats_hold_the_same(tmp_path: Path) -> None:
    x = rows({})
    x[0, 0] = np.nan
    write_input(tmp_path, x)
    asked = request(tmp_path)
    found = {}
    for suffix in (".parquet", ".csv", ".jsonl", ".arrow", ".npz"):
        output = tmp_path / f"out{suffix}"
        assert score(replace(asked, output=output), Quiet()).bad == 0
        assert not (tmp_path / "out.bad.jsonl").exists()
        found[suffix] = output
    expected = 2 * x
    np.testing.assert_array_equal(np.load(found[".npz"])["y"], expected)
    np.testing.assert_array_equal(np.load(found[".npz"])["id"], np.arange(COUNT))
    lines = [json.loads(line) for line in found[".jsonl"].read_text().splitlines()]
    np.testing.assert_array_equal([line["y"] for line in lines], expected)
    with found[".csv"].open() as text:
        np.testing.assert_array_equal([json.loads(each["y"]) for each in csv.DictReader(text)], expected)
    with pa.ipc.open_file(found[".arrow"]) as reader:
        np.testing.assert_array_equal(np.array(reader.read_all()["y"].to_pylist()), expected)


def test_an_interrupted_run_continues_and_the_output_is_the_same(tmp_path: Path) -> None:
    write_input(tmp_path, rows())
    whole = request(tmp_path)
    score(whole, Quiet())
    again = replace(whole, output=tmp_path / "again.parquet")
    for stop_after in (20, 70):
        with pytest.raises(KeyboardInterrupt):
            score(again, Quiet(stop_after))
        assert not again.output.exists()
    watcher = Quiet()
    summary = score(again, watcher)
    assert summary.earlier == watcher.done >= 60
    assert summary[:3] == (COUNT, COUNT - 3, 3)
    assert pq.read_table(again.output).equals(pq.read_table(whole.output))
    assert again.bad_file.read_bytes() == whole.bad_file.read_bytes()


def test_parts_of_something_else_are_refused(tmp_path: Path) -> None:
    write_input(tmp_path, rows({}))
    asked = request(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        score(asked, Quiet(20))
    write_input(tmp_path, rows())
    with pytest.raises(CannotScore, match="but the input has changed since; add --restart to score everything again"):
        score(asked, Quiet())
    other = replace(asked, options=ScoreOptions(prefix="p_"))
    with pytest.raises(CannotScore, match="the input and the options have changed"):
        score(other, Quiet())
    summary = score(replace(asked, restart=True), Quiet())
    assert (summary.earlier, summary.bad) == (0, 3)


def test_an_output_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    write_input(tmp_path, rows({}))
    asked = request(tmp_path)
    asked.output.write_text("precious")
    with pytest.raises(CannotScore, match="exists already; add --overwrite"):
        score(asked, Quiet())
    with pytest.raises(KeyboardInterrupt):
        score(replace(asked, overwrite=True), Quiet(20))
    assert asked.output.read_text() == "precious"
    score(replace(asked, overwrite=True), Quiet())
    assert pq.read_table(asked.output).num_rows == COUNT


def test_two_processes_do_not_write_the_same_output(tmp_path: Path) -> None:
    with (
        Parts(tmp_path / "out.csv", {}, False),
        pytest.raises(CannotScore, match="another process writes"),
        Parts(tmp_path / "out.csv", {}, False),
    ):
        pass


def test_an_unfinished_part_does_not_count(tmp_path: Path) -> None:
    batch = pa.record_batch({"y": [1, 2]})
    with Parts(tmp_path / "out.csv", {"the model": 1}, False) as parts:
        first = parts.new_part()
        first.add(2, batch, [])
        first.commit()
        unfinished = parts.new_part()
        unfinished.add(4, batch, [])
        assert unfinished._file is not None
        unfinished._file.close()
    with Parts(tmp_path / "out.csv", {"the model": 1}, False) as parts:
        assert [part[:3] for part in parts.done] == [(0, 2, 2)]
        with pytest.raises(AssertionError):  # counts must add up
            parts.new_part().add(5, batch, [])


def test_a_model_that_is_gone_ends_the_run_and_what_is_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_input(tmp_path, rows({}))
    asked = request(tmp_path)
    monkeypatch.setattr(score_run, "_PART_ROWS", 20)

    class Closing(Quiet):
        def begin(self, source: Any, scorer: Scorer, done: int) -> None:
            self.model = scorer._model

        def advance(self, rows: int, bad: int, position: int) -> None:
            self.model.close()

    with pytest.raises(Unavailable):
        score(asked, Closing())
    watcher = Quiet()
    assert score(asked, watcher).read == COUNT
    assert watcher.done >= 20


def test_names_and_columns_are_options(tmp_path: Path) -> None:
    write_input(tmp_path, rows({}))
    asked = request(tmp_path, options=ScoreOptions(keep=("x",), prefix="p_", columns={"x": "x"}))
    score(asked, Quiet())
    assert pq.read_table(asked.output).column_names == ["x", "p_y"]
    with pytest.raises(InvalidRequest, match="there is no column 'z' to keep"):
        score(replace(asked, overwrite=True, options=ScoreOptions(keep=("z",))), Quiet())
    with pytest.raises(CannotScore, match=r"must end with one of \.parquet"):
        score(replace(asked, output=tmp_path / "out.txt"), Quiet())


def test_no_rows_are_no_error(tmp_path: Path) -> None:
    write_input(tmp_path, np.zeros((0, 4), np.float32))
    assert score(request(tmp_path), Quiet())[:3] == (0, 0, 0)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


@pytest.mark.parametrize("values", [["a", "bc", "ü"], ["", "a", "b"], [b"\xff", b"", b"b"]])
def test_an_input_may_be_one_string_for_each_row(tmp_path: Path, values: list[Any]) -> None:
    pq.write_table(pa.table({"x": values}), tmp_path / "in.parquet")
    (x, y) = ({"name": name, "datatype": "BYTES", "shape": [-1]} for name in "xy")
    location = add_model(tmp_path, toml="max_batch_size = 8\n", inputs=[x], outputs=[y])
    assert score(request(tmp_path, location=location), Quiet())[:3] == (3, 3, 0)
    found = pq.read_table(tmp_path / "out.parquet")["y"].to_pylist()
    assert found == [2 * (value.encode() if isinstance(value, str) else value) for value in values]


def test_a_model_without_batches_gets_row_by_row(tmp_path: Path) -> None:
    x = rows()
    write_input(tmp_path, x)
    location = add_model(tmp_path, toml="max_batch_size = 0\nwarmup = 0\n")
    assert score(request(tmp_path, location=location), Quiet())[:3] == (COUNT, COUNT - 3, 3)
    good = [row for row in range(COUNT) if row not in BAD_VALUES]
    np.testing.assert_array_equal(np.array(pq.read_table(tmp_path / "out.parquet")["y"].to_pylist()), 2 * x[good])


def test_a_model_whose_rows_depend_on_each_other_ends_the_run(tmp_path: Path) -> None:
    """It was declared to have independent rows. Its outputs have a row for each positive value."""
    write_input(tmp_path, rows({}))
    location = add_model(tmp_path, toml="max_batch_size = 8\nwarmup = 0\n", counts_hits=True)
    with pytest.raises(Unavailable, match="score again with --max-batch-size 0 --restart"):
        score(request(tmp_path, location=location), Quiet())
    assert not (tmp_path / "out.parquet").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[modelport.Model]:
    folder = tmp_path_factory.mktemp("model")
    specs = [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT16", "shape": [-1]},
        {"name": "s", "datatype": "BYTES", "shape": [-1, 1]},
    ]
    outputs = [{**spec, "name": spec["name"] + "2"} for spec in specs]
    with pytest.MonkeyPatch.context() as patch:
        use_fake_runtime(patch, folder)
        location = add_model(folder, inputs=specs, outputs=outputs, inert=True, toml="max_batch_size = 4\n")
        with modelport.load(location) as model:
            yield model


CELLS = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=3)
LISTS = st.lists(st.none() | st.floats() | st.integers(-9, 9), max_size=3)
ROWS = st.fixed_dictionaries(
    {
        "a": st.none() | LISTS | st.just([1.5, 2.0]) | st.just([0.0, -1.0]),
        "b": CELLS | st.integers(-9, 9),
        "s": st.none() | st.text(max_size=3) | st.integers(0, 9),
        "id": st.integers(0, 9),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROWS, min_size=1, max_size=12))
def test_random_tables_lose_no_row(model: modelport.Model, tmp_path: Path, table: list[dict[str, Any]]) -> None:
    """As JSON lines, whose values may be of any kind. Each row is scored, as it would be alone, or is bad."""
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in table))

    options = ScoreOptions(keep=("id",))
    source = JsonLinesSource([file])
    try:
        scorer = Scorer(model, source.schema, options)
    except InvalidRequest as error:
        assert "and BYTES needs strings" in str(error)  # noqa: PT017 - or there is none
        return
    scored, bad = [], {}
    for chunk in source.chunks(0, 5):
        found = scorer.score(chunk.batch)
        assert found.batch.num_rows + len(found.bad) + len(chunk.bad) == chunk.end - chunk.start
        bad |= {chunk.numbers[each.row]: each.reason for each in found.bad}
        bad |= {each.row: each.reason for each in chunk.bad}
        scored += found.batch.to_pylist()
        single = [scorer.score(chunk.batch[number : number + 1]).batch for number in range(chunk.batch.num_rows)]
        assert repr([row for each in single for row in each.to_pylist()]) == repr(found.batch.to_pylist())
    good = [row for number, row in enumerate(table) if number not in bad]
    assert [each["id"] for each in scored] == [row["id"] for row in good]
    for row, each in zip(good, scored, strict=True):
        np.testing.assert_array_equal(each["a2"], np.float32(2) * np.array(row["a"], np.float32))
        assert each["b2"] == np.array(2 * int(row["b"])).astype(np.int16)
        assert each["s2"] == [2 * row["s"].encode()]


def test_vectors_of_floats_have_no_dictionary_in_parquet(tmp_path: Path) -> None:
    vectors = pa.table({"y": pa.array([[1.0, 2.0]] * 4), "id": range(4), "price": [0.5] * 4})
    names = vectors.append_column("names", pa.array([["a"]] * 4))
    for number, table in enumerate((vectors, vectors.select(["y"]), vectors.select(["id"]), names)):
        file = tmp_path / f"{number}.parquet"
        sinks.write(file, table.schema, table.to_batches().__iter__, table.num_rows)
        assert pq.read_table(file).equals(table)
        group = pq.read_metadata(file).row_group(0)
        encodings = [group.column(column).encodings for column in range(group.num_columns)]
        expected = [table is names or name != "y" for name in table.schema.names]
        assert ["RLE_DICTIONARY" in each for each in encodings] == expected


@pytest.mark.parametrize(
    ("row_bytes", "batch", "on_cpu", "expected"),
    [
        (256, 32, True, 1024),  # the most rows
        (0, 1, True, 1024),  # rows without bytes
        (12_288, 32, True, 704),  # 8 MiB, as whole batches
        (602_112, 32, True, 8),  # a batch of 18 MiB is quartered
        (602_112, 32, False, 32),  # and only a CPU's is
        (602_112, 24, True, 12),
        (602_112, 25, True, 13),
        (602_112, 4, True, 16),
        (64 << 20, 32, True, 1),
        (64 << 20, 1, False, 1),
    ],
)
def test_rows_of_a_chunk(row_bytes: int, batch: int, on_cpu: bool, expected: int) -> None:
    assert score_run.rows_of_chunk(row_bytes, batch, on_cpu) == expected


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ((32,), 32),  # an artifact with a fixed batch: each part of one would be filled up to 32 rows
        ((4, 12, 32), 12),  # the largest of at most 8 MiB, where 32 halved twice would be filled up to 12
        ((16, 32), 16),  # none of them is
    ],
)
def test_a_batch_that_would_be_filled_up_is_not_divided(declared: tuple[int, ...], expected: int) -> None:
    assert score_run.rows_of_chunk(602_112, 32, True, declared) == expected


def test_a_model_with_a_fixed_batch_gets_whole_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(score_run, "_CHUNK_BYTES", 64)  # four rows
    write_input(tmp_path, rows({}))
    sent, submit = list[int](), Scorer.submit

    def observed(self: Scorer, batch: pa.RecordBatch) -> Submitted:
        sent.append(batch.num_rows)
        return submit(self, batch)

    monkeypatch.setattr(Scorer, "submit", observed)
    asked = request(tmp_path, location=add_model(tmp_path, toml="batch_sizes = [15]\n"))
    score(replace(asked, batch_rows=0), Quiet())
    assert sent == [15] * (COUNT // 15)
