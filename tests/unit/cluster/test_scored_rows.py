"""All rows stay in the table: those that could not be scored say why."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import modelport
from gateway.cluster.loaded_models import loaded
from gateway.cluster.location import absolute
from gateway.cluster.packed import pack, score_packed, unpack
from gateway.cluster.scored_rows import score_rows
from gateway.errors import InvalidRequest
from gateway.score.scorer import ScoreOptions, Scorer
from tests.support.embedded_models import add_model, use_fake_runtime

X = pa.list_(pa.float32())


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[modelport.Model]:
    use_fake_runtime(monkeypatch, tmp_path)
    with modelport.load(add_model(tmp_path), progress=False) as model:
        yield model


def batch(first: int, rows: list[list[float] | None]) -> pa.RecordBatch:
    ids = pa.array(range(first, first + len(rows)))
    return pa.RecordBatch.from_arrays([ids, pa.array(rows, X)], ["id", "x"])


GOOD, SHORT, REFUSED = [1.0, 2.0, 3.0, 4.0], [1.0], [400.0, 0.0, 0.0, 0.0]
BATCHES = [batch(0, [GOOD, SHORT, GOOD, None, REFUSED]), batch(5, [SHORT]), batch(6, []), batch(6, [GOOD] * 3)]


def test_rows_keep_their_places(model: modelport.Model) -> None:
    scorer = Scorer(model, BATCHES[0].schema, ScoreOptions(keep=()))
    wide = pa.schema([("y", pa.list_(pa.float64()))])
    for outputs in (None, wide):
        found = list(score_rows(scorer, BATCHES, ["id"], outputs))
        assert [each.num_rows for each in found] == [5, 1, 0, 3]
        rows = [row for each in found for row in each.to_pylist()]
        assert [row["id"] for row in rows] == list(range(9))
        assert [row["y"] for row in rows] == [
            [2.0, 4.0, 6.0, 8.0] if place in (0, 2, 6, 7, 8) else None for place in range(9)
        ]
        assert [row["error"] is None for row in rows] == [row["y"] is not None for row in rows]
        assert "shape [1]" in rows[1]["error"]
        assert "null" in rows[3]["error"]
        assert found[0].schema.names == ["id", "y", "error"]
    assert found[0].schema.field("y").type == wide.field("y").type


def test_results_travel_with_their_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_fake_runtime(monkeypatch, tmp_path)
    add_model(tmp_path)
    spec = absolute("repository/m")
    assert Path(spec.location).is_absolute()
    options = ScoreOptions(keep=("id",))
    results = map(unpack, score_packed(spec, options, map(pack, BATCHES)))
    for scored, batch in zip(results, BATCHES, strict=True):
        expected = Scorer(loaded(spec), batch.schema, options).score(batch)
        assert scored.batch.equals(expected.batch)
        assert scored.bad == expected.bad
    for wrong in score_packed(spec, ScoreOptions(keep=("absent",)), map(pack, BATCHES)):
        with pytest.raises(InvalidRequest, match="there is no column 'absent'"):
            unpack(wrong)
    assert loaded(spec) is loaded(pickle.loads(pickle.dumps(spec)))
    loaded(spec).close()
    assert not loaded(spec).closed
    loaded(spec).close()


def test_locations_of_stores_stay_as_they_are() -> None:
    assert absolute("s3://bucket/models/m").location == "s3://bucket/models/m"
