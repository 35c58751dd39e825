"""Content that is downloaded: whole or not at all, once, and within a limit."""

import fcntl
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.contents.cache import Cache
from gateway.contents.errors import StoreError
from gateway.remote.fake_store import FakeStore
from gateway.remote.location import parse
from gateway.remote.names import wanted
from gateway.remote.transfer import keep

PLACE = parse("s3://bucket/models")


def kept(cache: Cache, store: FakeStore) -> str:
    return keep(cache, PLACE, store, wanted(store.objects()))


def contents(cache: Cache) -> list[str]:
    return sorted(entry.name for entry in (cache.folder / "contents").iterdir())


def leftovers(cache: Cache) -> list[Path]:
    return [path for path in (cache.folder / "incoming").rglob("*") if path.is_file()]


def test_content_is_downloaded_once_and_found_by_the_next_process(tmp_path: Path) -> None:
    store = FakeStore({"1/model.onnx": b"0123456789", "1/deep/data": b"abc"})
    digest = kept(Cache(tmp_path), store)
    assert (tmp_path / "contents" / digest / "files/1/model.onnx").read_bytes() == b"0123456789"
    assert (tmp_path / "contents" / digest / "files/1/deep/data").read_bytes() == b"abc"
    assert kept(Cache(tmp_path), store) == digest
    assert sorted(store.reads) == ["1/deep/data", "1/model.onnx"]


def test_damaged_content_is_downloaded_again(tmp_path: Path) -> None:
    store = FakeStore({"model.onnx": b"0123456789"})
    digest = kept(Cache(tmp_path), store)
    file = tmp_path / "contents" / digest / "files/model.onnx"
    file.write_bytes(b"01234")
    assert kept(Cache(tmp_path), store) == digest
    assert file.read_bytes() == b"0123456789"


def test_other_content_gets_another_digest_and_so_does_the_same_elsewhere(tmp_path: Path) -> None:
    store, cache = FakeStore({"model.onnx": b"old"}), Cache(tmp_path)
    digests = {kept(cache, store), keep(cache, parse("s3://other"), store, store.objects())}
    store.content["model.onnx"] = b"new"
    digests.add(kept(cache, store))
    assert len(digests) == 3


def failing(name: str) -> FakeStore:
    store = FakeStore({"a": b"0123456789", "b": b"0123456789"})
    if name == "dies":
        store.on_read = lambda _: setattr(store, "dead", True)
    elif name == "truncates":
        store.truncate = {"b"}
    elif name == "announces too much":
        store.lie = {"b": 5}
    elif name == "announces too little":
        store.lie = {"b": -5}
    elif name == "changes an object":
        store.on_read = lambda _: store.content.update(b=b"changed!!!")
    elif name == "adds an object":
        store.on_read = lambda _: store.content.update(c=b"new")
    elif name == "removes an object":
        store.on_read = lambda name: name == "a" and store.content.pop("a", None) and None
    return store


@pytest.mark.parametrize(
    "fault",
    [
        "dies",
        "truncates",
        "announces too much",
        "announces too little",
        "changes an object",
        "adds an object",
        "removes an object",
    ],
)
def test_nothing_appears_if_the_store(tmp_path: Path, fault: str) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(StoreError):
        kept(cache, failing(fault))
    assert contents(cache) == []
    assert leftovers(cache) == []


def test_what_was_used_least_recently_makes_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=30)
    digests = [kept(cache, FakeStore({"model": letter * 10})) for letter in (b"a", b"b", b"c")]
    for age, digest in enumerate(digests):
        os.utime(tmp_path / "contents" / digest / "manifest.json", (1000 + age, 1000 + age))
    kept(cache, FakeStore({"model": b"a" * 10}))  # used again, so that b is the oldest
    newest = kept(cache, FakeStore({"model": b"d" * 10}))
    assert contents(cache) == sorted([digests[0], digests[2], newest])


def test_what_is_in_use_stays_and_what_cannot_fit_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=25)
    first = kept(cache, FakeStore({"model": b"a" * 20}))
    cache.use("test", [first])
    with pytest.raises(StoreError, match="it needs 10 bytes, but model_cache_bytes is 25"):
        kept(cache, FakeStore({"model": b"b" * 10}))
    assert contents(cache) == [first]
    cache.use("test", [])
    second = kept(cache, FakeStore({"model": b"b" * 10}))
    assert contents(cache) == [second]


def hold(folder: Path, digest: str, pipe) -> None:
    cache = Cache(folder)
    cache.use("test", [digest])
    (Path(cache.folder) / "incoming" / cache._name / "half").write_bytes(b"half")
    pipe.send("held")
    pipe.recv()


def test_what_another_process_uses_stays_until_that_process_ends(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=25)
    first = kept(cache, FakeStore({"model": b"a" * 20}))
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=hold, args=(tmp_path, first, there))
    process.start()
    assert here.recv() == "held"
    with pytest.raises(StoreError, match="model_cache_bytes"):
        kept(cache, FakeStore({"model": b"b" * 10}))
    process.kill()
    process.join()
    here.close()
    there.close()
    kept(cache, FakeStore({"model": b"b" * 10}))
    assert len(leftovers(cache)) == 1  # of the process that was killed
    assert leftovers(Cache(tmp_path)) == []


def test_an_unbounded_cache_drops_what_nobody_uses_any_more(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    digests = [kept(cache, FakeStore({"model": letter})) for letter in (b"a", b"b")]
    cache.use("test", digests[:1])
    cache.drop(digests)
    assert contents(cache) == digests[:1]


def test_the_size_of_a_cache_whose_folder_is_gone_is_0(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    kept(cache, FakeStore({"model": b"0123456789"}))
    assert cache.bytes() == 10
    shutil.rmtree(tmp_path / "cache")
    assert cache.bytes() == 0  # a scrape of the metrics must not fail


def test_processes_that_start_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One removes what it takes for the file of a process that has ended, before the other has locked it."""
    lock, seen = fcntl.flock, list[str]()

    def late(file: int, operation: int) -> None:
        if not seen:
            seen.append(os.readlink(f"/proc/self/fd/{file}"))
            Cache(tmp_path)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    cache = Cache(tmp_path)
    cache.use("a user", ["content"])
    assert Path(seen[0]).read_text().split() == ["content"]


def test_what_is_in_use_is_always_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may read the file at any time."""
    cache, truncate, write, seen = Cache(tmp_path), os.ftruncate, os.pwrite, list[list[str]]()
    (file,) = (tmp_path / "processes").iterdir()

    def watch(change: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            result = change(*arguments)
            seen.append(file.read_text().split())
            return result

        return watched

    cache.use("one", ["kept", *(f"content-{number}" for number in range(20))])
    monkeypatch.setattr(os, "ftruncate", watch(truncate))
    monkeypatch.setattr(os, "pwrite", watch(write))
    cache.use("one", ["kept"])
    assert len(seen) > 1
    assert all("kept" in each for each in seen)
    assert seen[-1] == ["kept"]


@pytest.mark.parametrize(
    "manifest", ["", "[]", "null", '{"files": []}', '{"files": {"../../x": 1}}', '{"files": {"a": {}}}']
)
def test_a_damaged_manifest_is_no_content(tmp_path: Path, manifest: str) -> None:
    store = FakeStore({"a": b"1"})
    cache = Cache(tmp_path)
    digest = kept(cache, store)
    (tmp_path / "contents" / digest / "manifest.json").write_text(manifest)
    assert cache.bytes() in (0, 1)
    assert kept(cache, store) == digest
    assert (cache.path(digest) / "a").read_bytes() == b"1"
    assert store.reads == ["a", "a"]
