"""The compiled Tally counts and refuses what Python's does, whatever is called in whatever order."""

from array import array
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.tally import Tally
from gateway.front import fast

_FIELDS = (
    "admitted", "admitted_bytes", "bytes_held", "counted", "counts_in_flight", "flow", "has_quota", "permits",
    "permitted_bytes", "requests", "until",
)  # fmt: skip
_CELLS = 4
_CALLS = st.one_of(
    st.tuples(st.just("admits"), st.integers(0, 9), st.integers(1, 10), st.integers(0, 60), st.floats(0, 4)),
    st.tuples(st.just("use_permit"), st.integers(0, 9), st.floats(0, 4)),
    st.tuples(st.sampled_from(["add", "end"]), st.integers(0, 9)),
    st.tuples(st.just("place"), st.integers(0, _CELLS - 1), st.booleans()),
    st.tuples(st.just("lend"), st.integers(0, 3), st.floats(0, 20), st.floats(0, 4)),
    st.tuples(st.just("limit"), st.booleans(), st.booleans()),
)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    module = fast.load(True)
    if module is None:
        pytest.skip("the compiled path is not built")
    return module


@given(st.lists(_CALLS, max_size=40))
def test_both_count_alike(compiled: ModuleType, calls: list[tuple[str, *tuple[float, ...]]]) -> None:
    pages = [memoryview(array("d", bytes(8 * _CELLS))) for _ in range(2)]
    tallies = Tally(7, 8, 50), compiled.Tally(7, 8, 50)
    for tally, page in zip(tallies, pages, strict=True):
        tally.place(page, 0, True)
    for name, *arguments in calls:
        answers = []
        for tally, page in zip(tallies, pages, strict=True):
            if name == "lend":
                tally.permits, tally.permitted_bytes, tally.until = arguments
            elif name == "limit":
                tally.has_quota, tally.counts_in_flight = arguments
            elif name == "place":
                tally.place(page, *arguments)
            else:
                answers.append(getattr(tally, name)(*arguments))
        assert answers[1:] == answers[:1]
        ours, theirs = ([getattr(tally, field) for field in _FIELDS] for tally in tallies)
        assert ours == theirs
        assert pages[0].tolist() == pages[1].tolist()


def test_a_page_is_not_written_outside_of_its_cells(compiled: ModuleType) -> None:
    tally = compiled.Tally(7, 8, 50)
    for index in (-1, _CELLS):
        with pytest.raises(IndexError):
            tally.place(memoryview(array("d", bytes(8 * _CELLS))), index, True)
    with pytest.raises(IndexError):
        tally.place(memoryview(bytearray(8)), 0, True)
    with pytest.raises(BufferError):
        tally.place(memoryview(array("d", bytes(8)).tobytes()).cast("d"), 0, True)
    tally.count(1)
    assert tally.counted == 1
