"""Spans of profilers: what is within another, and how long each takes by itself."""

import time

from runtimes.profiled_runs import Span, lanes, median_run, self_times, unprofiled, within, without_operators


def test_a_span_does_not_count_those_within_it() -> None:
    spans = [Span("inner", 12, 3), Span("outer", 10, 10), Span("innermost", 13, 1), Span("after", 20, 5)]

    assert [(span.key, span.own_us) for span in self_times(spans)] == [
        ("outer", 7),
        ("inner", 2),
        ("innermost", 1),
        ("after", 5),
    ]


def test_spans_of_other_threads_are_not_within() -> None:
    assert [span.own_us for span in self_times([Span("a", 0, 10, "one"), Span("b", 2, 4, "two")])] == [10, 4]


def test_a_span_that_rounding_makes_longer_than_the_one_around_it_leaves_nothing_negative() -> None:
    assert [span.own_us for span in self_times([Span("outer", 0, 4), Span("inner", 0, 4), Span("late", 3, 3)])] == [
        0,
        3,
        3,
    ]


def test_spans_belong_to_the_inference_in_which_they_begin() -> None:
    spans = [Span("before", 9, 2), Span("in", 10, 5), Span("after", 20, 1)]

    assert within(spans, Span("inference", 10, 10)) == [Span("in", 10, 5)]


def test_the_run_with_the_median_duration_is_reported() -> None:
    assert median_run([(9.0, "slow"), (1.0, "fast"), (2.0, "usual")]) == (2.0, "usual")


def test_threads_are_numbered_by_appearance() -> None:
    assert lanes([77, 5, 77, 3]) == {77: 0, 5: 1, 3: 2}


def test_a_slow_model_runs_less_often(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def infer(seconds: float) -> None:
        now[0] += seconds

    assert unprofiled(lambda: infer(0.25)) == (250000.0, 8)
    assert unprofiled(lambda: infer(4.0))[1] == 3
    assert unprofiled(lambda: infer(1e-5))[1] == 15


def test_a_model_that_cannot_be_profiled_has_the_duration_of_an_inference_and_the_reason() -> None:
    profile = without_operators("a profiler 1.0", 12.5, 7, "It cannot profile strings.")

    assert profile.operators == ()
    assert (profile.duration_us, profile.unprofiled_us, profile.runs) == (12.5, 12.5, 7)
    assert profile.limits == ("It cannot profile strings.",)
