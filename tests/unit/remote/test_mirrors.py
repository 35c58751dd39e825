"""Locations that are followed by threads: the first reading, requests, and the end."""

import asyncio
import errno
import os
import tarfile
import threading
from pathlib import Path

import pytest

from gateway.contents.cache import Cache
from gateway.contents.errors import StoreError
from gateway.environments.runtime import discover
from gateway.remote.fake_store import FakeStore
from gateway.remote.location import BadLocation
from gateway.remote.mirrors import Mirrors
from gateway.remote.repositories import Repositories, scan_mirrored_model
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml
from gateway.supervisor.supervisor_metrics import repository_families

RUNTIMES = discover()


class World:
    """Stores by URL, and mirrors of them."""

    def __init__(self, folder: Path, lazy: bool = False, **stores: dict[str, bytes]) -> None:
        self.stores = {f"s3://{name}": FakeStore(content) for name, content in stores.items()}
        self.changed = threading.Event()
        cache = Cache(folder / "cache")
        self.mirrors = Mirrors(RUNTIMES, lambda: cache, 3600, lazy, lambda place: self.stores[str(place)])

    def start(self) -> None:
        self.mirrors.start(self.changed.set, frozenset)


def told(configs: list[ModelConfig]) -> dict[tuple[str, str], str]:
    return {(each.name, each.version): each.problem for each in configs}


def test_the_first_of_two_models_with_one_name_is_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(tmp_path, one={"m/1/model.onnx": b"1", "a/1/model.onnx": b"1"}, two={"m/2/model.onnx": b"2"})
    (tmp_path / "local/b/1").mkdir(parents=True)
    (tmp_path / "local/b/1/model.onnx").write_bytes(b"b")
    scan = Repositories(["s3://one", str(tmp_path / "local"), "s3://two"], world.mirrors)
    world.start()
    asyncio.run(world.mirrors.first_sync())
    for _ in range(2):
        found = told(scan(tmp_path, RUNTIMES))
    assert set(found) == {("m", "1"), ("a", "1"), ("b", "1"), ("m", "")}
    assert "rename one of them" in found["m", ""]
    assert [each for each in caplog.messages if "m: it is in s3://one and in s3://two" in each] == caplog.messages
    assert scan.folder_of("b") == tmp_path / "local"
    assert scan.folder_of("nobody") is None
    world.mirrors.stop()


def test_nothing_is_complete_before_every_location_has_been_read(tmp_path: Path) -> None:
    world = World(tmp_path, one={"m/1/model.onnx": b"1"}, two={"n/1/model.onnx": b"2"})
    world.stores["s3://two"].dead = True
    scan = Repositories(["s3://one", "s3://two"], world.mirrors)
    world.start()

    async def read() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await world.mirrors.first_sync()
        assert set(told(scan(tmp_path, RUNTIMES))) == {("m", "1")}
        assert world.mirrors.troubles() == ["the store cannot be listed: the connection is refused"]
        world.stores["s3://two"].dead = False
        assert await world.mirrors.prepare({"n"}) == ""
        await world.mirrors.first_sync()

    asyncio.run(read())
    assert set(told(scan(tmp_path, RUNTIMES))) == {("m", "1"), ("n", "1")}
    world.mirrors.stop()


def test_a_model_that_is_loaded_is_downloaded_and_others_are_listed(tmp_path: Path) -> None:
    world = World(tmp_path, lazy=True, one={"m/1/model.onnx": b"1", "n/3/model.onnx": b"2"})
    scan = Repositories(["s3://one"], world.mirrors)
    world.start()
    asyncio.run(world.mirrors.first_sync())
    found = told(scan(tmp_path, RUNTIMES))
    assert found == {("m", "1"): "its files are downloaded when it is loaded", ("n", "3"): found["m", "1"]}
    assert asyncio.run(world.mirrors.prepare({"n"})) == ""
    assert told(scan(tmp_path, RUNTIMES)) == {("m", "1"): found["m", "1"], ("n", "3"): ""}
    world.stores["s3://one"].dead = True
    assert "cannot be read" in asyncio.run(world.mirrors.prepare({"m"}))
    assert asyncio.run(world.mirrors.prepare({"n"})) == ""
    world.mirrors.stop()


def test_a_model_of_models_config_is_a_folder_of_versions(tmp_path: Path) -> None:
    world = World(tmp_path, one={"1/model.onnx": b"1", "2/model.onnx": b"2"})
    overrides = ModelToml.model_validate({"version_policy": {"specific": [1]}})
    mirror = world.mirrors.get("s3://one", "m", overrides)
    assert told(scan_mirrored_model(mirror, "m", overrides, RUNTIMES)) == {("m", ""): "its files are being downloaded"}
    world.start()
    asyncio.run(world.mirrors.first_sync())
    assert told(scan_mirrored_model(mirror, "m", overrides, RUNTIMES)) == {("m", "1"): ""}
    everything = ModelToml.model_validate({"version_policy": {"all": True}})
    assert world.mirrors.get("s3://one", "m", everything) is mirror
    asyncio.run(world.mirrors.prepare(()))
    assert told(scan_mirrored_model(mirror, "m", everything, RUNTIMES)) == {("m", "1"): "", ("m", "2"): ""}
    world.mirrors.keep_only(())
    assert world.mirrors.all() == []


def test_a_location_that_is_not_followed_any_more_can_be_again(tmp_path: Path) -> None:
    world = World(tmp_path, one={"m/1/model.onnx": b"1"})
    path = world.mirrors.get("s3://one")._folder.root
    world.mirrors.keep_only(())
    assert world.mirrors.get("s3://one")._folder.root == path
    world.mirrors.keep_only(())


def test_a_url_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLocation, match="ftp://"):
        Repositories(["ftp://user:SECRET@host"], World(tmp_path).mirrors)


def test_an_artifact_that_cannot_be_downloaded_is_listed_with_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path, one={"model.onnx": b"0123456789"})
    world.stores["s3://one"].truncate = {"model.onnx"}
    scan = Repositories(["s3://one"], world.mirrors)
    world.start()
    asyncio.run(world.mirrors.first_sync())
    (problem,) = told(scan(tmp_path, RUNTIMES)).values()
    assert "'model.onnx' has 5 bytes instead of the 10" in problem
    world.stores["s3://one"].truncate = set()
    asyncio.run(world.mirrors.prepare({"one"}))
    assert told(scan(tmp_path, RUNTIMES)) == {("one", "1"): ""}
    world.mirrors.stop()


def test_a_full_disk_at_the_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, one={"m/1/model.onnx": b"1"})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Cache, "use", full)
    with pytest.raises(StoreError, match="the model cache cannot be written: No space left on device"):
        world.mirrors.get("s3://one")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("1/model.onnx",), {("m", "1"): ""}),
        (("net/1/model.onnx",), {("m", ""): "it has no version folder"}),
        (("model.onnx",), {("m", ""): "it has no version folder"}),
        (("a/1/model.onnx", "b/1/model.onnx"), {("m", ""): "it has no version folder"}),
    ],
)
def test_a_model_of_models_config_may_be_an_archive(
    tmp_path: Path, files: tuple[str, ...], found: dict[tuple[str, str], str]
) -> None:
    """The archive's name is not the model's."""
    with tarfile.open(tmp_path / "net.tgz", "w:gz") as archive:
        for name in files:
            archive.addfile(tarfile.TarInfo(name))
    world = World(tmp_path)
    world.stores["https://host/net.tgz"] = FakeStore({"net.tgz": (tmp_path / "net.tgz").read_bytes()})
    mirror = world.mirrors.get("https://host/net.tgz", "m")
    world.start()
    asyncio.run(world.mirrors.first_sync())
    seen = told(scan_mirrored_model(mirror, "m", ModelToml(), RUNTIMES))
    assert seen.keys() == found.keys()
    assert all(seen[key].startswith(problem) for key, problem in found.items())
    world.mirrors.stop()


def test_locations_that_look_the_same_are_one_in_the_metrics(tmp_path: Path) -> None:
    """Two series with the same labels make a scrape invalid."""
    world = World(tmp_path, one={"1/model.onnx": b"1"})
    mirrors = [world.mirrors.get("s3://one", model) for model in ("a", "b")]
    mirrors[0].sync()
    mirrors[0].failures, mirrors[1].failures = 2, 3
    samples = [sample for family in repository_families(world.mirrors) for sample in family.samples]
    assert {sample.name: sample.value for sample in samples} == {
        "modelport_repository_last_sync_timestamp_seconds": 0.0,
        "modelport_repository_sync_failures_total": 5,
        "modelport_model_cache_bytes": 1,
    }
    assert len(samples) == 3
