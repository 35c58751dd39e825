"""A location becomes a folder: whole, restarted without downloads, and as it was when the store fails."""

import errno
import logging
import os
from pathlib import Path

import pytest

from gateway.contents.cache import Cache
from gateway.contents.errors import StoreError
from gateway.environments.runtime import discover
from gateway.remote.fake_store import FakeStore
from gateway.remote.location import parse
from gateway.remote.mirror import NOT_LOADED, Mirror
from gateway.remote.mirrors import chooser
from gateway.remote.repositories import scan_mirror
from gateway.repository.scan import scan

RUNTIMES = discover()


PIPELINE = b"""
inputs = [{name = "x", datatype = "FP32", shape = [-1, 2]}]
outputs = [{name = "y", datatype = "FP32", shape = [-1, 2]}]
steps = [{model = "a", inputs = {x = "x"}, outputs = {y = "y"}}]
"""


class Site:
    """A gateway's view of a store, which is started again by `restart`."""

    def __init__(self, folder: Path, content: dict[str, bytes], url: str = "s3://bucket/models", **options) -> None:
        self.folder, self.url, self.options = folder, url, options
        self.store = FakeStore(content)
        self.restart()

    def restart(self) -> None:
        for descriptor in getattr(self, "locks", []):
            os.close(descriptor)
        cache = Cache(self.folder, self.options.pop("max_bytes", 0))
        self.mirror = Mirror(parse(self.url), self.store, cache, chooser(RUNTIMES), **self.options)
        self.locks = [self.mirror._folder._lock, cache._own]
        self.store.reads.clear()

    def scanned(self) -> dict[tuple[str, str], str]:
        """(model, version) → content of its artifact, or the problem."""
        if self.mirror.path is None:
            return {}
        return {
            (each.name, each.version): each.problem or next(iter(each.files[2:3] or each.files)).name
            for each in scan(self.mirror.path, RUNTIMES)
        }

    def read(self, path: str) -> bytes:
        return (self.mirror._folder.root / path).read_bytes()

    def exists(self, path: str) -> bool:
        return (self.mirror._folder.root / path).exists()


REPOSITORY = {
    "a/model.toml": b"",
    "a/1/model.onnx": b"a1",
    "a/2/model.onnx": b"a2",
    "b/1/model.onnx": b"b1",
    "b/1/weights/w": b"w",
    "notes.txt": b"unrelated",
    ".git/config": b"hidden",
}


def test_the_versions_that_the_policy_selects_are_downloaded(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "2"), ("b", "1")}
    assert sorted(site.store.reads) == ["a/2/model.onnx", "a/model.toml", "b/1/model.onnx", "b/1/weights/w"]
    assert (site.read("a/2/model.onnx"), site.read("b/1/weights/w")) == (b"a2", b"w")


def test_the_policy_is_read_from_the_new_configuration(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    site.store.content["a/model.toml"] = b"version_policy = {specific = [1]}"
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "1"), ("b", "1")}
    site.store.content["a/model.toml"] = b"version_policy = {all = true}"
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "1"), ("a", "2"), ("b", "1")}


def test_a_restart_downloads_nothing_and_does_not_need_the_store(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    fingerprints = [each.fingerprint for each in scan(site.mirror.path, RUNTIMES)]
    site.store.dead = True
    site.restart()
    assert [each.fingerprint for each in scan(site.mirror.path, RUNTIMES)] == fingerprints
    with pytest.raises(StoreError, match="connection is refused"):
        site.mirror.sync()
    assert set(site.scanned()) == {("a", "2"), ("b", "1")}
    site.store.dead = False
    site.mirror.sync()
    assert site.store.reads == []
    assert [each.fingerprint for each in scan(site.mirror.path, RUNTIMES)] == fingerprints


def test_files_that_were_damaged_meanwhile_are_not_served(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    (site.mirror._folder.root / "b/1/weights/w").write_bytes(b"longer")
    site.restart()
    assert set(site.scanned()) == {("a", "2")}
    site.mirror.sync()
    assert site.read("b/1/weights/w") == b"w"


def test_what_changes_is_downloaded_and_what_vanishes_goes(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    site.store.reads.clear()
    site.store.content["b/1/weights/w"] = b"W"
    del site.store.content["a/2/model.onnx"]
    site.mirror.sync()
    assert sorted(site.store.reads) == ["a/1/model.onnx", "b/1/model.onnx", "b/1/weights/w"]
    assert set(site.scanned()) == {("a", "1"), ("b", "1")}
    assert site.read("b/1/weights/w") == b"W"
    assert len(list((tmp_path / "contents").iterdir())) == 2
    for name in list(site.store.content):
        if name.startswith("b/"):
            del site.store.content[name]
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "1")}


def test_a_version_that_is_served_stays_until_the_gateway_lets_it_go(tmp_path: Path) -> None:
    site = Site(tmp_path, {"a/1/model.onnx": b"a1"})
    served = {("a", "1")}
    site.mirror.in_use = lambda: served
    site.mirror.sync()
    site.store.content["a/2/model.onnx"] = b"a2"
    site.mirror.sync()
    assert site.exists("a/1/model.onnx")
    assert site.exists("a/2/model.onnx")
    served = {("a", "2")}
    site.mirror.sync()
    assert not site.exists("a/1")


@pytest.mark.parametrize("fault", ["truncate", "lie", "dies"])
def test_a_version_appears_only_when_it_is_whole(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, {"a/1/model.onnx": b"a1"})
    site.mirror.sync()
    site.store.content |= {"a/2/model.onnx": b"0123456789", "b/1/model.onnx": b"b1"}
    if fault == "truncate":
        site.store.truncate = {"a/2/model.onnx"}
    elif fault == "lie":
        site.store.lie = {"a/2/model.onnx": 7}
    else:
        site.store.on_read = lambda name: setattr(site.store, "dead", name == "a/2/model.onnx")
    site.mirror.in_use = lambda: {("a", "1")}
    with caplog.at_level(logging.ERROR, logger="models"):
        site.mirror.sync()
        site.store.dead = False
        site.mirror.sync()
    assert not site.exists("a/2")
    assert site.read("a/1/model.onnx") == b"a1"
    assert "its files could not be downloaded" in site.mirror.problems["a", "2"]
    assert len([each for each in caplog.records if "a version 2" in each.message]) == 1
    assert site.store.reads.count("a/2/model.onnx") == 1  # it waits before it downloads as much again
    site.store.truncate, site.store.lie, site.store.on_read = set(), {}, lambda name: None
    site.mirror.request(["a"])
    site.mirror.sync()
    assert site.read("a/2/model.onnx") == b"0123456789"
    assert site.mirror.problems == {}
    assert site.read("b/1/model.onnx") == b"b1"


def test_the_reason_of_a_download_that_failed_outlives_an_outage(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.store.truncate = {"b/1/model.onnx"}
    keep_only = site.mirror._folder.keep_only
    site.mirror._folder.keep_only = no_space
    with pytest.raises(StoreError, match="No space left"):
        site.mirror.sync()
    site.mirror._folder.keep_only = keep_only
    site.mirror.sync()
    assert "has 1 bytes instead of the 2" in site.mirror.problems["b", "1"]


def test_an_outage_is_logged_once_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    site.store.dead = True
    with caplog.at_level(logging.INFO, logger="models"):
        for _ in range(3):
            with pytest.raises(StoreError):
                site.mirror.sync()
        assert [each.levelname for each in caplog.records] == ["ERROR"]
        assert "continue to be served" in caplog.text
        assert (site.mirror.failures, bool(site.mirror.unread)) == (3, True)
        site.store.dead = False
        site.mirror.sync()
        site.mirror.sync()
    assert caplog.messages[1:] == ["s3://bucket/models can be read again"]
    assert site.mirror.unread == ""


def test_a_store_that_is_empty_all_of_a_sudden_is_an_outage(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    site.store.content.clear()
    with pytest.raises(StoreError, match="is empty now"):
        site.mirror.sync()
    assert set(site.scanned()) == {("a", "2"), ("b", "1")}


def test_names_that_would_leave_the_folder_harm_only_their_model(tmp_path: Path) -> None:
    site = Site(tmp_path, {"a/1/model.onnx": b"a1", "b/1/../../../evil": b"x", "b/1/model.onnx": b"b1"})
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "1")}
    assert "is refused" in site.mirror.problems["b", ""]
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("name", ["", ".", "..", "x\ny", "x\\y", "m" * 300])
def test_a_model_with_an_odd_name_does_not_stop_the_others(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path, {**REPOSITORY, f"{name}/1/model.onnx": b"x", f"{name}/model.toml": b""})
    site.mirror.sync()
    assert {(each.name, each.version) for each in scan_mirror(site.mirror, RUNTIMES)} == {("a", "2"), ("b", "1")}
    assert "is refused" in site.mirror.problems[name, ""]
    assert all(text.isprintable() for text in caplog.messages)


def test_a_model_whose_files_have_odd_names_is_in_the_index(tmp_path: Path) -> None:
    site = Site(tmp_path, {**REPOSITORY, "m/1/../x": b"x", "m/1/model.onnx": b"x"})
    site.mirror.sync()
    found = {(each.name, each.version): each.problem for each in scan_mirror(site.mirror, RUNTIMES)}
    assert found.keys() == {("a", "2"), ("b", "1"), ("m", "")}
    assert "is refused" in found["m", ""]


def test_files_that_cannot_be_written_harm_only_their_model(tmp_path: Path) -> None:
    deep = "/".join(["d" * 250] * 20)
    site = Site(tmp_path, {**REPOSITORY, f"deep/{deep}": b"x", "deep/1/model.onnx": b"x"})
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "2"), ("b", "1")}
    assert site.mirror.problems["deep", ""] == "its files cannot be written to the model cache: File name too long"


@pytest.mark.parametrize("names", [("a/labels", "a/labels/en.txt"), ("a/labels/en.txt", "a/labels")])
def test_a_file_may_become_a_folder_and_a_folder_a_file(tmp_path: Path, names: tuple[str, str]) -> None:
    before, after = names
    site = Site(tmp_path, {**REPOSITORY, before: b"before"})
    site.mirror.sync()
    del site.store.content[before]
    site.store.content |= {after: b"after", "b/1/weights/w": b"changed"}
    site.mirror.sync()
    assert (site.read(after), site.read("b/1/weights/w"), site.mirror.problems) == (b"after", b"changed", {})


def test_no_empty_folder_remains_of_a_file_that_vanished(tmp_path: Path) -> None:
    site = Site(tmp_path, {**REPOSITORY, "b/model.toml/by-mistake": b"x"})
    site.mirror.sync()
    assert "cannot be read" in site.scanned()["b", ""]
    del site.store.content["b/model.toml/by-mistake"]
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "2"), ("b", "1")}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"model.onnx": b"old"}, {"1/model.onnx": b"new"}),
        ({"1/model.onnx": b"old"}, {"model.onnx": b"new"}),
        ({"model.onnx": b"old"}, {"net/1/model.onnx": b"new", "other/1/model.onnx": b"other"}),
        ({"net/1/model.onnx": b"old"}, {"model.onnx": b"new"}),
    ],
)
def test_a_location_may_change_its_shape(tmp_path: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    site = Site(tmp_path, before, "s3://bucket/net")
    site.mirror.sync()
    assert set(site.scanned()) == {("net", "1")}
    site.store.content = dict(after)
    site.mirror.sync()
    found = {
        each.name: next(file for file in each.artifact.path.rglob("model.onnx")).read_bytes()
        if each.artifact.path.is_dir()
        else each.artifact.path.read_bytes()
        for each in scan(site.mirror.path, RUNTIMES)
    }
    assert found["net"] == b"new"
    assert len(found) == len({name.split("/")[0] for name in after})


def test_a_file_with_the_name_of_a_version_is_no_version(tmp_path: Path) -> None:
    site = Site(tmp_path, {**REPOSITORY, "b/2": b"a stray file"})
    site.mirror.sync()
    assert set(site.scanned()) == {("a", "2"), ("b", "1")}


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_broken_configuration_changes_nothing_else(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY)
    site.mirror.sync()
    site.store.content["a/model.toml"] = b"nonsense = 1"
    site.mirror.sync()
    assert site.exists("a/2/model.onnx")
    assert "nonsense" in site.scanned()["a", ""]


@pytest.mark.parametrize(
    ("url", "content", "expected"),
    [
        ("s3://bucket/resnet", {"1/model.onnx": b"x", "model.toml": b""}, {("resnet", "1")}),
        ("s3://bucket/resnet", {"model.onnx": b"x"}, {("resnet", "1")}),
        ("s3://bucket/m", {"a/1/model.onnx": b"", "config.pbtxt": b"stray", "2/x": b"stray"}, {("a", "1")}),
        ("s3://bucket/m", {"1/model.onnx": b"", "1/2/weights": b"x", "labels/en.txt": b"x"}, {("m", "1")}),
        ("s3://bucket/half", {"saved_model.pb": b"x", "variables/1": b"y"}, {("half", "1")}),
        ("s3://bucket/net.onnx", {"net.onnx": b"x", "net.onnx.data": b"y"}, {("net", "1")}),
        ("https://host/net.onnx", {"net.onnx": b"x"}, {("net", "1")}),
        ("s3://bucket/m", {"p/1": b"", "p/model.toml": PIPELINE}, {("p", "1")}),
        ("s3://bucket/m", {"p/1/.keep": b"", "p/model.toml": PIPELINE}, {("p", "1")}),
        ("s3://bucket/m", {"a/007/model.onnx": b"", "a/7/model.onnx": b""}, {("a", "7")}),
    ],
)
def test_shapes(tmp_path: Path, url: str, content: dict[str, bytes], expected: set[tuple[str, str]]) -> None:
    site = Site(tmp_path, content, url)
    site.mirror.sync()
    assert set(site.scanned()) == expected
    site.restart()
    assert set(site.scanned()) == expected


def test_under_explicit_control_a_model_is_downloaded_when_it_is_requested(tmp_path: Path) -> None:
    site = Site(tmp_path, REPOSITORY, lazy=True)
    site.mirror.sync()
    assert site.store.reads == ["a/model.toml"]
    assert site.mirror.problems == {("a", "2"): NOT_LOADED, ("b", "1"): NOT_LOADED}
    site.mirror.request(["b"])
    site.mirror.sync()
    assert site.mirror.problems == {("a", "2"): NOT_LOADED}
    assert site.read("b/1/model.onnx") == b"b1"


def test_models_that_are_not_served_make_room_for_one_that_is_loaded(tmp_path: Path) -> None:
    content = {f"{name}/1/model.onnx": b"x" * 10 for name in "abc"}
    site = Site(tmp_path, content, lazy=True, max_bytes=25)
    served: set[tuple[str, str]] = set()
    site.mirror.in_use = lambda: served
    for name in "ab":
        site.mirror.request([name])
        site.mirror.sync()
        served.add((name, "1"))
        site.mirror.sync()
    site.mirror.request(["c"])
    site.mirror.sync()
    assert "model_cache_bytes" in site.mirror.problems["c", "1"]
    served.discard(("a", "1"))
    site.mirror.sync()
    site.mirror.request(["c"])
    site.mirror.sync()
    assert site.exists("c/1/model.onnx")
    assert not site.exists("a/1/model.onnx")
    site.mirror.sync()
    assert site.mirror.problems == {("a", "1"): NOT_LOADED}


def test_what_was_loaded_and_unloaded_between_two_readings_makes_room(tmp_path: Path) -> None:
    content = {f"{name}/1/model.onnx": b"x" * 10 for name in "abcd"}
    site = Site(tmp_path, content, lazy=True, max_bytes=25)
    for name in "abcd":
        site.mirror.request([name])
        site.mirror.sync()
        assert site.exists(f"{name}/1/model.onnx"), site.mirror.problems
        site.mirror.withdraw([name])  # loaded, and unloaded at once
    assert not site.exists("a/1/model.onnx")


def test_what_was_unloaded_makes_room_at_once(tmp_path: Path) -> None:
    content = {f"{name}/1/model.onnx": b"x" * 10 for name in "abc"}
    site = Site(tmp_path, content, lazy=True, max_bytes=25)
    served = {("a", "1"), ("b", "1")}
    site.mirror.in_use = lambda: served
    site.mirror.sync()
    served = set()
    site.mirror.request(["c"])
    site.mirror.sync()
    assert site.exists("c/1/model.onnx")


def test_two_gateways_share_contents_but_not_folders(tmp_path: Path) -> None:
    first, second = Site(tmp_path, REPOSITORY), Site(tmp_path, REPOSITORY)
    first.mirror.sync()
    second.mirror.sync()
    assert second.store.reads == ["a/model.toml"]
    assert first.mirror.path != second.mirror.path
    assert set(first.scanned()) == set(second.scanned()) == {("a", "2"), ("b", "1")}
