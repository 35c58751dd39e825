"""Requests whose form is known are read in part only: they are accepted and understood as if they were read whole."""

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.domain.types import InferRequest
from gateway.engine.fake import FakeEngine
from gateway.errors import InvalidRequest
from gateway.front.dialects.v2 import rest_forms
from gateway.front.dialects.v2.output_options import ALL_BINARY, ALL_JSON, OutputOptions
from gateway.front.dialects.v2.rest_request import read_request
from runtimes.layouts import new_layout
from tests.support.front_server import answer, models

ENGINE = FakeEngine(models(), answer)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    rest_forms._forms.entries.clear()
    rest_forms._seen.entries.clear()
    yield
    rest_forms._forms.entries.clear()
    rest_forms._seen.entries.clear()


def read(text: bytes, binary: bytes | None = None) -> tuple[InferRequest, OutputOptions]:
    return read_request(ENGINE, "m", "", text + (binary or b""), None if binary is None else len(text))


def outcome(text: bytes, binary: bytes | None = None) -> Any:
    """The request as plain values, or the error."""
    try:
        request, options = read(text, binary)
    except InvalidRequest as error:
        return str(error)
    tensors = [(*each[:3], bytes(each.data)) for each in request.inputs]
    return request._replace(inputs=tensors, outputs=list(request.outputs), layout=None), options


def whole(text: bytes, binary: bytes | None = None) -> Any:
    """The outcome without any known form."""
    rest_forms._forms.entries.clear()
    rest_forms._seen.entries.clear()
    return outcome(text, binary)


def learned() -> list[rest_forms.Form]:
    return [form for form in rest_forms._forms.entries.values() if form is not None]


def body(data: str = "[1,2.5]", **more: Any) -> bytes:
    """A request for two values; `more` has further keys, before the inputs."""
    start = "".join(f"{json.dumps(key)}:{json.dumps(value)}," for key, value in more.items())
    return f'{{{start}"inputs":[{{"name":"x","shape":[2],"datatype":"FP32","data":{data}}}]}}'.encode()


def learn(text: bytes, binary: bytes | None = None) -> None:
    for _ in range(3):
        read(text, binary)


def test_a_form_is_learned_when_it_is_seen_again() -> None:
    read(body())
    assert not learned()
    read(body("[3,4]"))
    (form,) = learned()
    request, options = read(body("[5,-6e3]"))
    assert (request.layout, options) == (form.layout, ALL_JSON)
    assert outcome(body("[5,-6e3]")) == whole(body("[5,-6e3]"))


@pytest.mark.parametrize(
    "data",
    ["[true,1]", "[1,false]", "[null,1]", '["1",2]', "[1]", "[1,2,3]", "[[1,2]]", "[1,[2]]", "[1e999,2]", "[1e39,2]",
     "[NaN,1]", "[Infinity,1]", "[]", "[1,2", "[1,,2]", "[1 2]", "[01,2]", "{}", "null", "[1,2]]", "[1,{}]", '"[1,2]"'],
)  # fmt: skip
def test_unusual_values_are_read_as_without_a_form(data: str) -> None:
    expected = whole(body(data))
    learn(body())
    assert learned()
    assert outcome(body(data)) == expected


@pytest.mark.parametrize("request_id", ["one", "", "ä", "\\u00e9", "a\\nb", '\\"', "\u2028", "\ufffe", "x" * 300])
def test_ids_vary_within_a_form(request_id: str) -> None:
    text = body().replace(b'{"inputs', f'{{"id":"{request_id}","inputs'.encode())
    expected = whole(text)
    learn(body(id="another"))
    (form,) = learned()
    assert outcome(text) == expected
    assert learned() == [form]


def test_an_id_with_a_control_character_is_rejected_as_without_a_form() -> None:
    text = body(id="ab").replace(b"ab", b"a\nb")
    expected = whole(text)
    learn(body(id="ab"))
    assert outcome(text) == expected
    assert "not valid JSON" in expected


@pytest.mark.parametrize(
    "text",
    [
        body().replace(b'"data":', b'"data":[9,9],"data":'),  # of duplicate keys, the last counts
        body(parameters={"data": [1, 2]}),
        body(id="x").replace(b'"x","inputs"', b'"x","id":"y","inputs"'),
        body(id=None),
        body(name="id"),
        body(parameters={"id": "filled"}, id="filled"),
        b'{"data":1,"inputs":[]}',
        b'{"data":[1],"inputs":[]}',
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","d\\u0061ta":["0"],"parameters":{"data":["0"]}}]}',
        b'{"inputs":[{"name":"data","shape":[2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"id","shape":[2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"name":"a\\"data\\":[","shape":[2],"datatype":"FP32","data":[1,2]}]}',
        b'{"inputs":[{"data":[1,2],"name":"x","shape":[2],"datatype":"FP32"}]}',
        b'{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","data":["a]","b"]}]}',
        b'{"inputs":[{"name":"x","shape":[2],"datatype":"BOOL","data":[true,false]}]}',
        b'{"inputs":[{"name":"x","shape":[],"datatype":"FP32","data":3}]}',
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[1,2]]}]}',
        b'{"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[]}]}',
        body(parameters={"priority": 3, "signature": "s"}),
        body(outputs=[{"name": "y", "parameters": {"classification": 1}}]),
        b' { "inputs" : [ { "name" : "x" , "shape" : [ 2 ] , "datatype" : "FP32" , "data" : [ 1 , 2 ] } ] } ',
    ],
)
def test_documents_of_any_shape_are_read_the_same_again(text: bytes) -> None:
    expected = whole(text)
    for _ in range(4):
        assert outcome(text) == expected


def test_a_parameter_that_equals_the_id_is_not_taken_for_it() -> None:
    for request_id in ("one", "filled", "0"):
        learn(body(parameters={"id": request_id}, id=request_id))
        other = body(parameters={"id": "another"}, id=request_id)
        assert outcome(other)[0].id == request_id


def test_a_parameter_that_equals_the_values_is_not_taken_for_them() -> None:
    def text(parameter: str) -> bytes:
        tensor = (
            f'{{"name":"x","shape":[1],"datatype":"BYTES","d\\u0061ta":["0"],"parameters":{{"data":["{parameter}"]}}}}'
        )
        return f'{{"inputs":[{tensor}]}}'.encode()

    learn(text("0"))
    assert outcome(text("another")) == whole(text("another"))


def test_a_timeout_counts_from_each_arrival() -> None:
    text, deadlines = body(parameters={"timeout": 5_000_000}), []
    for _ in range(4):
        before = time.monotonic()
        request, _ = read(text)
        assert request.deadline is not None
        assert before + 5 <= request.deadline <= time.monotonic() + 5
        deadlines.append(request.deadline)
    assert len(learned()) == 1
    assert sorted(set(deadlines)) == deadlines


def test_several_lists_of_one_request() -> None:
    def text(*lists: str) -> bytes:
        inputs = [
            f'{{"name":"x{number}","shape":[{each.count(",") + 1}],"datatype":"INT64","data":{each}}}'
            for number, each in enumerate(lists)
        ]
        return f'{{"inputs":[{",".join(inputs)}],"outputs":[{{"name":"y"}}],"id":"z"}}'.encode()

    learn(text("[1,2]", "[3]", "[4,5,6]"))
    other = text("[7,8]", "[-9]", f"[4,5,{1 << 62}]")
    assert len(learned()) == 1
    assert outcome(other) == whole(other)


def test_more_lists_than_a_form_may_have() -> None:
    inputs = [
        {"name": f"x{n}", "shape": [1], "datatype": "FP32", "data": [n]} for n in range(rest_forms._MAX_LISTS + 1)
    ]
    text = json.dumps({"inputs": inputs}).encode()
    expected = whole(text)
    learn(text)
    assert not learned()
    assert outcome(text) == expected


def test_tensors_after_the_json() -> None:
    text = (
        b'{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}},'
        b'{"name":"y","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}],'
        b'"parameters":{"binary_data_output":true}}'
    )
    strings, other = b"\1\0\0\0a\1\0\0\0b", b"\0\0\0\0\2\0\0\0cd"
    learn(text, strings + b"1234")
    assert len(learned()) == 1
    assert read(text, other + b"4321")[1] is ALL_BINARY
    for binary in (other + b"4321", b"", strings, strings + b"12345", None):
        expected = whole(text, binary)
        learn(text, strings + b"1234")
        assert outcome(text, binary) == expected


def test_the_bytes_of_booleans_are_checked_each_time() -> None:
    text = b'{"inputs":[{"name":"x","shape":[2],"datatype":"BOOL","parameters":{"binary_data_size":2}}]}'
    learn(text, b"\0\1")
    assert "must be 0 or 1" in outcome(text, b"\0\2")


def test_forms_are_bounded() -> None:
    """By number and by size: clients choose names, parameters and whatever else the protocol ignores."""
    for number in range(3 * rest_forms._MAX_FORMS):
        for _ in range(3):
            read(body(parameters={"other": number}))
    assert len(rest_forms._forms) == rest_forms._MAX_FORMS
    assert len(rest_forms._seen) <= rest_forms._MAX_SEEN
    rest_forms._forms.entries.clear()
    learn(body(parameters={"other": "x" * rest_forms._MAX_TEXT}))
    assert not rest_forms._forms.entries


_TEXTS = st.text(st.sampled_from('ab"[]{}:,\\ data id 1'), max_size=12)
_NUMBERS = st.lists(st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.booleans()), min_size=2, max_size=2)


@settings(max_examples=150, deadline=None)
@given(
    name=_TEXTS, first=_NUMBERS, second=_NUMBERS, ids=st.tuples(_TEXTS, _TEXTS), where=st.permutations(range(4)),
    datatype=st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "FP16"]), spaces=st.booleans(),
)  # fmt: skip
def test_random_documents_are_read_the_same(
    name: str, first: list[Any], second: list[Any], ids: tuple[str, str], where: list[int], datatype: str, spaces: bool
) -> None:
    def text(data: list[Any], request_id: str) -> bytes:
        keys = [("name", name), ("shape", [2]), ("datatype", datatype), ("data", data)]
        document = {"inputs": [dict(keys[index] for index in where)], "id": request_id}
        if where[0] % 2:
            document = dict(reversed(document.items()))
        return json.dumps(document, separators=(", ", ": ") if spaces else (",", ":")).encode()

    one, other = text(first, ids[0]), text(second, ids[1])
    expected = whole(one), whole(other)
    for _ in range(2):
        assert (outcome(one), outcome(other)) == expected


def test_inputs_in_any_order_have_one_layout() -> None:
    one = {"name": "one", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    two = {"name": "two", "shape": [1], "datatype": "INT64", "data": [3]}
    three = {"name": "three", "shape": [1], "datatype": "INT8", "parameters": {"binary_data_size": 1}}
    four = {"name": "four", "shape": [1], "datatype": "UINT8", "parameters": {"binary_data_size": 1}}
    layouts = set()
    for inputs in itertools.permutations([one, two, three, four]):
        binary = b"".join({"three": b"3", "four": b"4"}.get(str(each["name"]), b"") for each in inputs)
        text = json.dumps({"inputs": inputs}).encode()
        for _ in range(3):
            request, _ = read(text, binary)
            assert [(each.name, bytes(each.data)) for each in request.inputs] == [
                ("four", b"4"), ("one", np.array([1, 2], np.float32).tobytes()), ("three", b"3"),
                ("two", np.array([3], np.int64).tobytes()),
            ]  # fmt: skip
            layouts.add(tuple(request.layout or new_layout("", request.outputs, request.inputs)))
    assert len(learned()) == 24
    assert len(layouts) == 1


def strings(data: list[Any], name: str = "x") -> bytes:
    tensor = {"name": name, "shape": [2], "datatype": "BYTES", "data": data}
    return json.dumps({"id": "a", "inputs": [tensor]}, ensure_ascii=False).encode()


def test_strings_are_read_by_their_form() -> None:
    learn(strings(["a", "b"]))
    (form,) = learned()
    assert form.layout == ("", (), (("x", "BYTES", (2,), -1),))  # the same for strings of any length
    rest_forms._seen.entries.clear()
    request, _ = read(strings(["ä", ""]))
    assert bytes(request.inputs[0].data) == b"\2\0\0\0\xc3\xa4\0\0\0\0"
    assert not rest_forms._seen.entries  # the full reader would have tried to learn


_STRINGS = st.lists(
    st.one_of(_TEXTS, st.text(max_size=3), st.none(), st.booleans(), st.integers(0, 9), st.just({"b64": "AA=="})),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(first=_STRINGS, second=_STRINGS, third=st.lists(_TEXTS, min_size=2, max_size=2), name=_TEXTS)
def test_random_strings_are_read_the_same(first: list[Any], second: list[Any], third: list[str], name: str) -> None:
    every = [strings(data, name) for data in (third, first, second)]
    expected = [whole(text) for text in every]
    for _ in range(3):
        assert [outcome(text) for text in every] == expected
