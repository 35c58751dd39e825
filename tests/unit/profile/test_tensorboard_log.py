"""A profile as a TensorBoard log, read back from its files."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.generated import tensorboard_profile_pb2 as profile_pb
from gateway.profile import tensorboard
from gateway.profile.profile import Result
from gateway.profile.record import Trace
from runtimes.profiling import GraphNode, OperatorProfile, OperatorTime
from tests.support.event_files import events, scalars
from tests.support.model_repositories import add_fake

NODES = (
    GraphNode("x", "Placeholder", (), (-1, 4)),
    GraphNode("dense/weight", "Const", (), (4, 2)),
    GraphNode("dense/matmul", "aten::matmul", ("x", "dense/weight"), (-1, 2), {"alpha": "1"}),
    GraphNode("dense/add", "aten::add", ("dense/matmul",)),
)
OPERATORS = OperatorProfile(
    "a profiler 1.0",
    (
        OperatorTime("dense/add", "aten::linear", 2.0, 10.0, 30.0, joined=("dense/matmul",)),
        OperatorTime("dense/add", "aten::mm", 5.0, 20.0, 20.0),
        OperatorTime("io/copy", "aten::copy_", 40.0, 0.2, 0.2, note="it converts the inputs"),
        OperatorTime("dense/matmul", "gemm", 8.0, 7.0, 7.0, device="cuda:1", lane=3),
    ),
    duration_us=50.0,
    unprofiled_us=45.0,
    runs=5,
)


@pytest.fixture
def result(run: Callable[..., Result], tmp_path: Path) -> Result:
    add_fake(tmp_path / "models", "m")
    return run()


def written(result: Result, folder: Path, trace: Trace) -> Path:
    tensorboard.write(replace(result.profile, trace=trace), folder)
    return folder / "graph"


def only(found: list[Any], field: str) -> Any:
    (event,) = [each for each in found if each.WhichOneof("what") == field]
    return getattr(event, field)


def test_figures_are_written_by_batch_size(result: Result, tmp_path: Path) -> None:
    found = scalars(tmp_path / "out" / "tensorboard" / "1 thread")
    for tag, field in (("throughput/rows_per_s", "rows_per_s"), ("latency/p99_ms", "p99_ms")):
        expected = {point.rows: pytest.approx(getattr(point, field), rel=1e-5) for point in result.profile.points}
        assert list(expected) == [1, 4, 8]
        assert found[tag] == expected
    assert found["memory/peak_mib"][8] > 1


def test_an_earlier_log_is_replaced(result: Result, tmp_path: Path) -> None:
    old = tmp_path / "log" / "9 threads" / "events.out.tfevents.1.host"
    old.parent.mkdir(parents=True)
    old.touch()
    written(result, tmp_path / "log", Trace(0, 0))
    assert not old.exists()


def test_the_graph_has_a_node_for_all_that_ran(result: Result, tmp_path: Path) -> None:
    from tensorboardX.proto.graph_pb2 import GraphDef

    found = list(events(written(result, tmp_path / "log", Trace(8, 2, NODES, OPERATORS))))
    graph = {node.name: node for node in GraphDef.FromString(only(found, "graph_def")).node}
    assert list(graph) == [*(node.name for node in NODES), "not_in_the_graph.io.copy"]
    matmul = graph["dense/matmul"]
    assert (matmul.op, list(matmul.input)) == ("aten::matmul", ["x", "dense/weight"])
    assert (matmul.attr["alpha"].s, matmul.attr["computed_by"].s) == (b"1", b"dense/add")
    assert [dim.size for dim in matmul.attr["_output_shapes"].list.shape[0].dim] == [-1, 2]
    assert graph["not_in_the_graph.io.copy"].attr["why"].s == b"it converts the inputs"

    tagged = only(found, "tagged_run_metadata")
    assert tagged.tag == "a batch of 8, threads 2"
    devices = profile_pb.RunMetadata.FromString(tagged.run_metadata).step_stats.dev_stats
    times = {
        device.device: {each.node_name: (each.all_start_micros, each.all_end_rel_micros) for each in device.node_stats}
        for device in devices
    }
    assert times == {
        "/device:CPU:0": {"dense/add": (3, 30), "not_in_the_graph.io.copy": (41, 1)},
        "/device:GPU:1": {"dense/matmul": (9, 7)},
    }
    assert {name for device in times.values() for name in device} <= set(graph)


def test_the_profile_plugin_gets_every_operator(result: Result, tmp_path: Path) -> None:
    written(result, tmp_path / "log", Trace(8, 2, NODES, OPERATORS))
    (file,) = (tmp_path / "log").glob("plugins/profile/graph/*.xplane.pb")
    space = profile_pb.XSpace.FromString(file.read_bytes())
    found = [
        (plane.name, line.name, plane.event_metadata[event.metadata_id].name, event.offset_ps, event.duration_ps)
        for plane in space.planes
        for line in plane.lines
        for event in line.events
    ]
    assert found == [
        ("/host:CPU", "inference", "inference", 0, 50_000_000),
        ("/host:CPU", "lane 0", "dense/add:Linear", 2_000_000, 30_000_000),
        ("/host:CPU", "lane 0", "dense/add/Mm:Mm", 5_000_000, 20_000_000),
        ("/host:CPU", "lane 0", "io/copy:Copy_", 40_000_000, 200_000),
        ("/device:GPU:1", "lane 3", "dense/matmul:Gemm", 8_000_000, 7_000_000),
    ]


def test_a_profiler_that_names_no_operator_offers_no_times(result: Result, tmp_path: Path) -> None:
    graph = written(
        result, tmp_path / "log", Trace(4, 1, NODES, OPERATORS._replace(operators=(), limits=("It fails.",)))
    )
    found = list(events(graph))
    assert only(found, "graph_def")
    assert not [each for each in found if each.WhichOneof("what") == "tagged_run_metadata"]
    assert not (tmp_path / "log" / "plugins").exists()
    assert any(b"It fails." in each.SerializeToString() for each in found)


def test_the_text_page_has_the_recommendation_and_the_operators(result: Result, tmp_path: Path) -> None:
    found = events(written(result, tmp_path / "log", Trace(8, 2, NODES, OPERATORS)))
    texts = {value.tag: value.tensor.string_val[0].decode() for event in found for value in event.summary.value}
    assert "max_batch_size = " in texts["summary/text_summary"]
    assert "| dense/add | aten::linear" in texts["operators/text_summary"]


def test_without_tensorboardx_the_profile_says_so(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    add_fake(tmp_path / "models", "m")
    assert any("tensorboardX is missing: pip install" in note for note in run().profile.notes)
    assert not (tmp_path / "out" / "tensorboard").exists()
