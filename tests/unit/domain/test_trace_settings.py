"""Trace settings: a model's override those of all models; a number of requests is divided among the fronts."""

from typing import Any

import pytest

from gateway.domain.trace_settings import GLOBAL, TraceSampler, TraceSettings, TraceTable
from gateway.errors import InvalidRequest, Unsupported

ON = {"trace_level": ["TIMESTAMPS"]}


def table(**default: Any) -> TraceTable:
    return TraceTable(TraceSettings(**default))


def sampler(traces: TraceTable, front: int = 1, fronts: int = 1) -> TraceSampler:
    made = TraceSampler()
    made.apply(traces.to_front(front, fronts))
    return made


def traced(made: TraceSampler, model: str, requests: int) -> int:
    return sum(made.samples(model) for _ in range(requests))


def test_what_is_not_set_for_a_model_is_as_for_all_models_and_may_be_cleared() -> None:
    traces = table(rate=500)
    assert traces.settings("m").to_json() == {
        "trace_level": ["OFF"], "trace_rate": "500", "trace_count": "-1", "trace_mode": "opentelemetry",
    }  # fmt: skip
    traces.change("m", {"trace_rate": "2"})
    traces.change(GLOBAL, {**ON, "trace_rate": "9", "trace_count": 7})
    assert traces.settings("m") == TraceSettings(True, 2, 7)
    assert traces.settings("other") == traces.settings() == TraceSettings(True, 9, 7)
    traces.change("m", {"trace_level": ["OFF"], "trace_mode": "opentelemetry", "trace_file": None})
    assert traces.settings("m") == TraceSettings(False, 2, 7)
    traces.change(GLOBAL, {"trace_rate": None, "trace_count": None})
    assert traces.settings() == TraceSettings(True, 500, -1)
    traces.change("m", {"trace_level": None, "trace_rate": None})
    assert traces.settings("m") == traces.settings()
    assert list(traces.to_front(1, 1)) == [GLOBAL]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"trace_level": ["TENSORS"]}, Unsupported, "'trace_level' cannot be 'TENSORS'"),
        ({"trace_level": ["TIMESTAMPS", "TENSORS"]}, Unsupported, "'trace_level' cannot be 'TENSORS'"),
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, InvalidRequest, "'trace_level' must be a list"),
        ({"trace_level": []}, InvalidRequest, "'trace_level' must be a list"),
        ({"trace_level": [1]}, InvalidRequest, "'trace_level' must be a list"),
        ({"trace_level": 1}, InvalidRequest, "'trace_level' must be a list"),
        ({"trace_rate": "-1"}, InvalidRequest, "'trace_rate' must be an integer from 0 to"),
        ({"trace_rate": "1.5"}, InvalidRequest, "'trace_rate' must be an integer"),
        ({"trace_rate": True}, InvalidRequest, "'trace_rate' must be an integer"),
        ({"trace_rate": "9" * 5000}, InvalidRequest, "'trace_rate' must be an integer"),
        ({"trace_count": "-2"}, InvalidRequest, "'trace_count' must be an integer from -1"),
        ({"trace_count": ["1"]}, InvalidRequest, "'trace_count' must be an integer"),
        ({"trace_mode": "triton"}, Unsupported, "'trace_mode' can only be 'opentelemetry'"),
        ({"trace_file": "a"}, Unsupported, "'trace_file' cannot be set, because"),
        ({"log_frequency": "5"}, Unsupported, "'log_frequency' cannot be set, because"),
        ({"rate": "5"}, InvalidRequest, "there is no trace setting 'rate'; the settings are trace_level, trace_rate"),
    ],
)
def test_an_impossible_change_says_why_and_changes_nothing(
    changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    traces = table()
    with pytest.raises(error) as caught:
        traces.change("m", {**ON, "trace_rate": "3", **changes})
    assert str(caught.value).startswith(said)
    assert traces.settings("m") == TraceSettings()


def test_tracing_needs_a_collector() -> None:
    traces = TraceTable(TraceSettings(), "no traces here")
    traces.change("m", {"trace_rate": "3", "trace_level": ["OFF"]})
    with pytest.raises(Unsupported, match="no traces here"):
        traces.change("m", ON)


def test_one_of_so_many_requests_is_traced_in_each_scope() -> None:
    traces = table()
    traces.change(GLOBAL, {**ON, "trace_rate": "10"})
    traces.change("m", {"trace_rate": "3"})
    traces.change("off", {"trace_level": ["OFF"]})
    made = sampler(traces)
    assert made.enabled
    assert [traced(made, model, 30) for model in ("other", "m", "off")] == [3, 10, 0]
    traces.change(GLOBAL, {"trace_rate": "0"})
    assert traced(sampler(traces), "other", 30) == 0
    assert not sampler(table()).enabled


def test_the_caller_decides_if_it_has_decided() -> None:
    traces = table(enabled=True, rate=1)
    made = sampler(traces)
    assert made.samples("m", parent=True)
    assert not made.samples("m", parent=False)
    made.apply(table(rate=1).to_front(1, 1))
    assert not made.samples("m", parent=True)


def test_fronts_trace_a_number_of_requests_together_and_no_more() -> None:
    traces = table(enabled=True, rate=1)
    traces.change(GLOBAL, {"trace_count": "7"})
    traces.change("m", {"trace_count": "2"})
    fronts = {number: sampler(traces, number, 3) for number in (1, 2, 3)}
    assert [traced(made, "other", 10) for made in fronts.values()] == [3, 2, 2]
    assert [traced(made, "m", 10) for made in fronts.values()] == [1, 1, 0]
    assert fronts[1].take_traced() == {"2": 3, "3": 1}
    assert fronts[1].take_traced() == {}


def test_what_is_left_is_known_and_goes_to_the_next_front() -> None:
    traces = table(enabled=True, rate=1)
    traces.change(GLOBAL, {"trace_count": "10"})
    first, second = sampler(traces, 1, 2), sampler(traces, 2, 2)
    assert traced(first, "m", 2) == traced(second, "m", 2) == 2
    traces.on_traced(1, first.take_traced())
    assert traces.settings().count == 8
    # A change of something else leaves what a front has left, also if it has not reported all of it.
    traces.change(GLOBAL, {"trace_rate": "1"})
    second.apply(traces.to_front(2, 2))
    assert traced(second, "m", 10) == 3
    traces.on_traced(2, second.take_traced())
    traces.on_front_ended(1)
    assert traces.settings().count == 3
    assert traced(sampler(traces, 3, 2), "m", 10) == 3
    # Set anew, it counts anew, and old reports do not count.
    traces.change(GLOBAL, {"trace_count": "1"})
    traces.on_traced(3, {"2": 5})
    assert traces.settings().count == 1
