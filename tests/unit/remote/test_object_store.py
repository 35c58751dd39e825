"""obstore against a web server that fails in the usual ways: what is said, that it ends, and that no secret shows."""

import sys

import pytest

from gateway.remote import object_store
from gateway.remote.location import parse
from gateway.remote.store import Store, StoreError, open_store
from tests.support.web_files import WebFiles


def opened(web: WebFiles) -> Store:
    return open_store(parse(f"{web.url}/model.onnx?Signature=SECRET".replace("http://", "http://user:SECRET@")))


def read(store: Store) -> bytes:
    (item,) = store.objects()
    return b"".join(store.read(item))


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_RETRIES", 1)
    monkeypatch.setattr(object_store, "_STALL", "300ms")


def test_a_file_is_read_and_asked_for_by_its_etag() -> None:
    with WebFiles() as web:
        web.files["/model.onnx"] = bytes(range(256)) * 50_000
        store = opened(web)
        assert read(store) == web.files["/model.onnx"]
        store.objects()
        assert "If-None-Match".lower() in {name.lower() for name in web.headers[-1]}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("truncated", "the connection ended early, and the server cannot resume"),
        ("stalls", "the connection ended early, and the server cannot resume|no bytes arrived for 300ms"),
        ("no length", "does not announce the file's size"),
        (403, "access is denied"),
        (404, "it does not exist"),
        (500, "the store answered 500"),
        ("gone", "the connection is refused"),
    ],
)
def test_what_is_said_when_the_server(fault: str | int, reason: str) -> None:
    with WebFiles() as web:
        web.files["/model.onnx"] = b"x" * 1000
        store = opened(web)
        if isinstance(fault, int):
            web.status = fault
        elif fault != "gone":
            web.faults["/model.onnx"] = fault
        else:
            web.close()
        with pytest.raises(StoreError, match=reason) as caught:
            read(store)
        assert "SECRET" not in str(caught.value)


def test_a_file_that_changes_between_two_requests_is_refused() -> None:
    with WebFiles() as web:
        web.files["/model.onnx"] = b"old"
        store = opened(web)
        (item,) = store.objects()
        web.files["/model.onnx"] = b"new"
        with pytest.raises(StoreError, match="changed while it was being downloaded"):
            b"".join(store.read(item))


def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for url, extra in (("s3://bucket/m", "remote"), ("hf://org/repo", "hf")):
        with pytest.raises(StoreError, match=rf"pip install 'modelport\[{extra}\]'"):
            open_store(parse(url))
