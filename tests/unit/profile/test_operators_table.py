"""The tables of operators and nodes that take the most time."""

import io

import pytest
from rich.console import Console

from gateway.profile.operators_table import as_markdown, by_node, by_operator, for_terminal, summary
from runtimes.profiling import OperatorProfile, OperatorTime


def profile(*operators: OperatorTime) -> OperatorProfile:
    return OperatorProfile("the profiler 1.0", operators, 500.0, 400.0, 7, ("It has a limit.",))


TWO = profile(
    OperatorTime("a", "Conv", 0.0, 60.0, 60.0),
    OperatorTime("b", "Conv", 60.0, 20.0, 20.0),
    OperatorTime("b", "Cast[|]", 80.0, 20.0, 40.0),
)


def test_shares_are_of_the_sum_of_all_operators() -> None:
    assert [(each.name, each.count, each.us, each.share) for each in by_operator(TWO)] == [
        ("Conv", 2, 80.0, pytest.approx(0.8)),
        ("Cast[|]", 1, 20.0, pytest.approx(0.2)),
    ]
    assert [(each.name, each.operator, each.us) for each in by_node(TWO)] == [
        ("a", "Conv", 60.0),
        ("b", "Cast[|] and 1 more", 40.0),
    ]


def test_a_profile_without_operators_has_no_tables() -> None:
    known = "Profiler: the profiler 1.0. No operator of an inference of 400 us is known. It has a limit."

    assert by_operator(profile()) == by_node(profile()) == []
    assert summary(profile()) == known
    assert as_markdown(profile()) == known + "\n"


def test_the_summary_sets_the_sum_beside_the_inference_and_says_what_profiling_costs() -> None:
    assert summary(TWO) == (
        "Profiler: the profiler 1.0. 3 operators take 100 us of an inference of 500 us (the median of 7), which takes "
        "400 us without the profiler. It has a limit."
    )
    on_two = profile(*TWO.operators, OperatorTime("c", "Conv", 0.0, 900.0, 900.0, lane=1))
    assert "4 operators take 1,000 us on 2 threads or streams" in summary(on_two)


def test_the_tables_in_markdown_keep_their_columns() -> None:
    table = as_markdown(TWO)

    assert "| operator | times | us | share |\n| --- | ---: | ---: | ---: |\n| Conv | 2 | 80.0 | 80.0% |" in table
    assert r"| b | Cast[\|] and 1 more | 40.0 | 40.0% |" in table


def test_what_a_table_leaves_out_is_summed_up() -> None:
    table = as_markdown(TWO, top=1)

    assert "| 1 other |  | 20.0 | 20.0% |" in table
    assert "Cast" not in table


def test_the_terminal_shows_the_same() -> None:
    written = io.StringIO()
    Console(file=written, width=100).print(for_terminal(TWO))

    assert "Cast[|] and 1 more" in written.getvalue()
    assert "60.0%" in written.getvalue()
    assert "400 us without the profiler" in " ".join(written.getvalue().split())
