"""Profiles in the Trace Event Format: valid by its rules, and with all that the profiles say."""

import json
from collections import defaultdict
from typing import Any

from gateway.profile.chrome_trace import chrome_trace
from runtimes.profiling import OperatorProfile, OperatorTime

CPU = OperatorProfile(
    "ONNX Runtime 1.31.1",
    (
        OperatorTime("body/loop", "Loop", 5.0, 20.0, 60.0),
        OperatorTime("body/matmul", "MatMul", 10.0, 40.0, 40.0, joined=("body/add",)),
        OperatorTime("reorder", "ReorderOutput", 70.0, 2.0, 2.0, note="ONNX Runtime added it"),
    ),
    duration_us=90.0,
    unprofiled_us=80.0,
    runs=5,
    limits=("It tells one thing only.",),
)
GPU = OperatorProfile(
    "torch.profiler of PyTorch 2.13.0",
    (
        OperatorTime("conv", "aten::conv2d", 0.0, 30.0, 30.0, "cpu", 1),
        OperatorTime("conv", "gemm<float, 128>", 12.0, 100.0, 100.0, "cuda:0", 7),
    ),
    duration_us=130.0,
    unprofiled_us=120.0,
    runs=3,
)


def events(trace: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def check_format(trace: dict[str, Any]) -> None:
    """Check what the Trace Event Format requires of complete events and of metadata."""
    again = json.loads(json.dumps(trace, allow_nan=False))
    assert again["displayTimeUnit"] in ("ms", "ns")
    ends: dict[tuple[int, int], list[float]] = defaultdict(list)
    for event in again["traceEvents"]:
        assert event["ph"] in ("X", "M")
        assert type(event["pid"]) is int
        assert 0 < event["pid"] < 1 << 31
        assert type(event["tid"]) is int
        assert isinstance(event["args"], dict)
    for event in events(again, "M"):
        wanted = {"process_name": "name", "thread_name": "name", "process_labels": "labels"}
        assert set(event["args"]) == {wanted[event["name"]]}
    named = {(event["pid"], event["tid"]) for event in events(again, "M") if event["name"] == "thread_name"}
    for event in sorted(events(again, "X"), key=lambda event: (event["ts"], -event["dur"])):
        assert event["name"]
        assert "," not in event["cat"]
        assert event["ts"] >= 0
        assert event["dur"] >= 0
        thread = event["pid"], event["tid"]
        assert thread in named
        # Slices of one thread follow each other or lie within each other.
        while ends[thread] and ends[thread][-1] <= event["ts"]:
            ends[thread].pop()
        assert not ends[thread] or event["ts"] + event["dur"] <= ends[thread][-1]
        ends[thread].append(event["ts"] + event["dur"])


def test_a_trace_of_several_models_keeps_the_rules_of_the_format() -> None:
    check_format(chrome_trace({"one": CPU, "two": GPU}))
    check_format(chrome_trace({}))


def test_each_device_of_a_model_is_a_process_and_each_lane_a_thread() -> None:
    trace = chrome_trace({"one": CPU, "two": GPU})

    names = {event["pid"]: event["args"]["name"] for event in events(trace, "M") if event["name"] == "process_name"}
    assert sorted(names.values()) == ["one on cpu", "two on cpu", "two on cuda:0"]
    threads = {
        (names[event["pid"]], event["args"]["name"]) for event in events(trace, "M") if event["name"] == "thread_name"
    }
    assert threads == {
        ("one on cpu", "inference"),
        ("one on cpu", "lane 0"),
        ("two on cpu", "inference"),
        ("two on cpu", "lane 1"),
        ("two on cuda:0", "lane 7"),
    }


def test_an_operator_says_its_node_and_lasts_as_long_as_those_that_it_calls() -> None:
    slices = {event["name"]: event for event in events(chrome_trace({"one": CPU}), "X")}

    assert (slices["body/loop"]["ts"], slices["body/loop"]["dur"]) == (5.0, 60.0)
    assert slices["body/loop"]["args"] == {"node": "body/loop", "operator": "Loop", "own_us": 20.0}
    assert slices["body/matmul"]["args"]["joined"] == "body/add"
    assert slices["reorder"]["args"]["note"] == "ONNX Runtime added it"
    assert slices["inference"]["dur"] == 90.0
    assert slices["inference"]["args"] == {"unprofiled_us": 80.0, "profiled_runs": 5}


def test_the_profilers_and_what_they_lack_are_in_the_file() -> None:
    others = chrome_trace({"one": CPU})["otherData"]

    assert others == {"one": {"profiler": "ONNX Runtime 1.31.1", "limits": ["It tells one thing only."]}}


def test_profiles_pass_through_json_unchanged() -> None:
    assert OperatorProfile.from_json(json.loads(json.dumps(CPU.to_json()))) == CPU


def test_an_operator_that_another_of_its_node_calls_has_its_own_name() -> None:
    profile = CPU._replace(
        operators=(
            OperatorTime("fc", "aten::linear", 0.0, 2.0, 10.0),
            OperatorTime("fc", "aten::addmm", 1.0, 8.0, 8.0),
            OperatorTime("fc", "aten::linear", 20.0, 5.0, 5.0),
        )
    )
    names = [event["name"] for event in events(chrome_trace({"one": profile}), "X")]

    assert names == ["fc", "aten::addmm", "fc", "inference"]


def test_the_events_of_several_files_can_be_joined() -> None:
    joined = chrome_trace({"one": CPU})["traceEvents"] + chrome_trace({"two": GPU})["traceEvents"]

    assert joined == chrome_trace({"one": CPU, "two": GPU})["traceEvents"]
