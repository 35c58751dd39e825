"""One model, fetched: downloaded once, under its own name, and from the cache if the store fails."""

import errno
import logging
import os
from pathlib import Path

import pytest

from gateway.contents.errors import StoreError
from gateway.remote import fetch as fetching
from gateway.remote.fake_store import FakeStore
from gateway.remote.fetch import fetch, shared_cache


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    monkeypatch.setenv("MODELPORT_MODEL_CACHE", str(tmp_path))
    shared_cache.cache_clear()
    store = FakeStore({})
    monkeypatch.setattr(fetching, "open_store", lambda place: store)
    return store


@pytest.mark.parametrize(
    ("url", "content", "name", "file"),
    [
        ("s3://b/m/net.onnx", {"net.onnx": b"x", "net.onnx.data": b"y"}, "net.onnx", ""),
        ("s3://b/saved", {"saved_model.pb": b"x"}, "saved", "saved_model.pb"),
        ("s3://b/resnet", {"1/model.onnx": b"x", "model.toml": b""}, "resnet", "1/model.onnx"),
        ("hf://org/repo", {"model.onnx": b"x", ".gitattributes": b"hidden"}, "repo", "model.onnx"),
    ],
)
def test_what_is_fetched_has_the_name_of_the_location(
    store: FakeStore, url: str, content: dict[str, bytes], name: str, file: str
) -> None:
    store.content = content
    path = fetch(url)
    assert path.name == name
    assert (path / file if file else path).read_bytes() == b"x"
    assert fetch(url) == path
    assert len(store.reads) == len([each for each in content if not each.startswith(".")])


def test_a_store_that_fails_leaves_what_was_fetched(store: FakeStore, caplog: pytest.LogCaptureFixture) -> None:
    store.content = {"model.onnx": b"old"}
    path = fetch("s3://b/m")
    store.dead = True
    with caplog.at_level(logging.WARNING, logger="models"):
        assert fetch("s3://b/m") == path
    assert "what is in the cache is used" in caplog.text
    with pytest.raises(StoreError, match="connection is refused"):
        fetch("s3://b/other")
    store.dead = False
    store.content = {"model.onnx": b"new"}
    assert (fetch("s3://b/m") / "model.onnx").read_bytes() == b"new"


def test_nothing_is_an_error(store: FakeStore) -> None:
    with pytest.raises(StoreError, match="s3://b/m cannot be downloaded: it does not exist, or is empty"):
        fetch("s3://b/m")


def test_a_path_is_returned_as_it_is() -> None:
    assert fetch("models/a") == Path("models/a")


def test_a_full_disk_is_an_error_in_one_sentence(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.content = {"net.onnx": b"x"}
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match="the model cache cannot be written: No space left on device"):
        fetch("s3://b/m/net.onnx")
