"""Answers that came in one frame are written together: each is what it would be on its own."""

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
import pytest

from gateway.domain.shared_memory import SharedMemory
from gateway.domain.types import InferResponse
from gateway.front.base.limits import Limits
from gateway.front.dialects.v2.output_options import ALL_BINARY, ALL_JSON, OutputOptions
from gateway.front.dialects.v2.rest_response import write_member, write_response
from runtimes.contract import DATATYPES
from runtimes.layouts import (
    GroupedTensors,
    TensorGroup,
    TensorLayout,
    by_row,
    cached,
    new_layout,
    pack_tensors,
    string_sizes,
)
from runtimes.tensors import Tensor, from_array, pack_bytes

MEMBERS = 3
LIMITS = Limits()
NUMBERS = {each.name: each.dtype for each in DATATYPES.values() if each.name != "BYTES"}


def grouped(each: list[list[Tensor]]) -> list[GroupedTensors]:
    """The outputs of several answers, as in one frame."""
    layout = cached(new_layout("", (), each[0]))
    return members(layout, [1] * len(each), each)


def members(layout: TensorLayout, rows: list[int], each: list[list[Tensor]]) -> list[GroupedTensors]:
    buffers = [[tensor.data for tensor in tensors] for tensors in each]
    body = memoryview(b"".join([b"odd", *pack_tensors(layout, buffers)]))
    group = TensorGroup(layout, rows, body, 3, string_sizes(layout, buffers))
    return [GroupedTensors(group, member) for member in range(len(each))]


def by_rows(each: list[list[Tensor]]) -> list[GroupedTensors]:
    """The same for answers with different numbers of rows."""
    layout = cached(by_row(new_layout("", (), each[0]), 0))
    return members(layout, [tensors[0].shape[0] for tensors in each], each)


def whole(response: InferResponse, options: OutputOptions) -> tuple[bytes, int | None]:
    parts, json_length = write_response(response, options, LIMITS, SharedMemory())
    return b"".join(parts), json_length


def check(each: list[list[Tensor]], grouped: Callable[[list[list[Tensor]]], list[GroupedTensors]] = grouped) -> None:
    """Write the answers in several ways and orders; all members share what was made of the group."""
    ids = cycle(["", "one", 'an "id"', "\u00e9"])
    for options in (ALL_JSON, ALL_BINARY):
        members = grouped(each)
        for member in (*members, *reversed(members)):
            response = InferResponse("m", "1", member, next(ids))
            written = write_member(response, options, LIMITS)
            assert written is not None
            assert (b"".join(written[0]), written[1]) == whole(response._replace(outputs=list(member)), options)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 2), (3000,)])
@pytest.mark.parametrize("datatype", NUMBERS)
def test_members_are_written_as_if_they_were_alone(datatype: str, shape: tuple[int, ...]) -> None:
    chance, itemsize = np.random.default_rng(1), DATATYPES[datatype].itemsize
    size = int(np.prod(shape)) * itemsize
    limit = {"BOOL": 2, "INT4": 8, "UINT4": 16}.get(datatype, 256)  # any bytes: floats are NaN and infinite, too
    each = [[Tensor("y", datatype, shape, chance.integers(limit, size=size, dtype=np.uint8).tobytes())] for _ in "abc"]
    check(each)
    check(each[:1])


def test_members_with_several_outputs() -> None:
    check(
        [
            [
                from_array("scores", np.array([member, np.nan if member == 1 else 0.5], np.float32)),
                Tensor("texts", "BYTES", (2,), pack_bytes([b"%d" % member, b"],["])),
                from_array("flag", np.array(member == 2)),
                from_array('quoted "\u00fc"', np.full((2, 2), member, np.int64)),
            ]
            for member in range(MEMBERS)
        ]
    )


@pytest.mark.parametrize("worst", [0.5, np.nan])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (3000,)])
def test_members_with_different_numbers_of_rows(shape: tuple[int, ...], worst: float) -> None:
    each = [
        [
            from_array("y", np.full((rows, *shape), [worst, 1.0, 2.0][rows - 1], np.float32)),
            from_array("number", np.arange(rows, dtype=np.int64)),
        ]
        for rows in (2, 1, 3, 1)
    ]
    check(each, by_rows)
    assert [list(member) for member in by_rows(each)] == each


@pytest.mark.parametrize("worst", ["a", '"],["', "\u00e9\n\0", b"\xff", "x" * 9000])
def test_members_with_strings_of_any_length(worst: bytes | str) -> None:
    def tensors(rows: int, texts: Sequence[bytes | str]) -> list[Tensor]:
        return [Tensor("t", "BYTES", (rows, 2), pack_bytes(texts)), from_array("y", np.arange(rows))]

    check([tensors(2, [text, "b", "", "d"]) for text in ("", "c", worst)])
    each = [tensors(1, ["", "c"]), tensors(3, ["d", worst, "", "", '"', "["]), tensors(2, ["e"] * 4)]
    check(each, by_rows)
    assert [list(member) for member in by_rows(each)] == each


@pytest.mark.parametrize("options", [ALL_JSON, ALL_BINARY])
def test_answers_without_outputs(options: OutputOptions) -> None:
    (member,) = grouped([[]])
    assert write_member(InferResponse("m", "1", member), options, LIMITS) is None
    assert whole(InferResponse("m", "1", member), options)[0] == b'{"model_name":"m","model_version":"1","outputs":[]}'


def test_answers_over_a_limit_or_with_other_options_are_for_the_general_writer() -> None:
    (member,) = grouped([[from_array("y", np.zeros(4, np.float32))]])
    response = InferResponse("m", "1", member)
    assert write_member(response, ALL_JSON, Limits(response_bytes=15)) is None
    assert write_member(response, ALL_JSON, Limits(json_bytes=7)) is None
    (text,) = grouped([[Tensor("y", "BYTES", (1,), pack_bytes(["a" * 12]))]])
    for limits, fits in ((Limits(response_bytes=15), False), (Limits(response_bytes=16), True)):
        assert (write_member(InferResponse("m", "1", text), ALL_BINARY, limits) is not None) == fits
    assert write_member(response, OutputOptions(class_counts={"y": 1}), LIMITS) is None
    assert write_member(response._replace(outputs=list(member)), ALL_JSON, LIMITS) is None
