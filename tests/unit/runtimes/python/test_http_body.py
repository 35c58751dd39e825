"""The fields of a request's body, as a handler gets them."""

import pytest

from runtimes.contract import InvalidInput
from runtimes.python.http_body import Field, read_fields

FORM = "multipart/form-data; boundary="
HEAD = b'--x\r\nContent-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("content_type", "content", "value"),
    [
        ("application/json", b'{"a": [1]}', {"a": [1]}),
        ("application/json", b"{", bytearray(b"{")),
        ("application/json", b"[" * 100_000, bytearray(b"[" * 100_000)),
        ("text/plain", "ü".encode(), "ü"),
        ("text/plain", b"\xff", bytearray(b"\xff")),
        ("", b"[1]", bytearray(b"[1]")),
    ],
)
def test_json_and_text_are_read_if_they_are_what_they_say(content_type: str, content: bytes, value: object) -> None:
    (field,) = read_fields(content, content_type)
    assert (field.name, field.value()) == ("body", value)


def test_the_parameters_of_a_content_type_do_not_matter() -> None:
    assert read_fields(b"1", "Application/JSON; charset=utf-8") == [Field("body", "application/json", b"1")]


def test_a_form_may_contain_anything_but_its_boundary() -> None:
    content = b"\r\n\r\n-x--\n--x\r\r\n"
    body = (
        HEAD
        + b"\r\n\r\n"
        + content
        + b"\r\n--x \r\nContent-Disposition: form-data; name=b; filename=f\r\n\r\n\r\n--x--"
    )
    assert read_fields(b"before\r\n" + body + b"\r\nafter", FORM + '"x"') == [
        Field("a", "", content),
        Field("b", "application/octet-stream", b""),
    ]


def test_names_in_quotes_are_unescaped() -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="a\\"; b"; filename="f"\r\n'
    body += b"content-type: Text/Plain; charset=utf-8\r\n\r\nt\r\n--x--"
    assert read_fields(body, FORM + "x") == [Field('a"; b', "text/plain", b"t")]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, HEAD + b"\r\n\r\nv\r\n--x--"),
        (FORM + "x", b""),
        (FORM + "x", b"--x--"),
        (FORM + "x", HEAD + b"\r\n\r\nv"),
        (FORM + "x", HEAD + b"\r\n\r\nv\r\n--x\r\n"),
        (FORM + "x", HEAD + b"\r\n--x--"),
        (FORM + "x", b"--x\r\n\r\nv\r\n--x--"),
        (FORM + "x", (HEAD + b"\r\n\r\nv\r\n") * 257 + b"--x--"),
        ("application/x-www-form-urlencoded", b"a=1&" * 300),
        ("application/x-www-form-urlencoded", b"\xff"),
    ],
)
def test_a_form_that_is_not_valid_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(InvalidInput, match="the body is not"):
        read_fields(body, content_type)
