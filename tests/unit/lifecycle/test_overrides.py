"""What load requests bring: how long it replaces what is in the repository, and what remains on the disk."""

import asyncio
from pathlib import Path

import pytest

from gateway.environments.runtime import Runtime, read_runtime
from gateway.errors import NotFound, Unavailable, Unsupported
from gateway.lifecycle.load_requests import LoadRequests
from gateway.lifecycle.overrides import Override, Overrides
from gateway.repository.model_config import ModelConfig
from gateway.repository.scan import scan
from tests.support import ROOT
from tests.support.managers import Repository, managing, run, states, until
from tests.support.model_repositories import add_fake

RUNTIMES: dict[str, Runtime] = {"fake": read_runtime(ROOT / "runtimes" / "fake", "fake")}


def sent(folder: Path, version: str = "1") -> Override:
    """Files as a request brings them."""
    add_fake(folder.parent, folder.name, version)
    return Override("{}", folder, is_temporary=True)


def entries(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def artifacts(configs: list[ModelConfig]) -> dict[str, Path | None]:
    return {f"{each.name}/{each.version}": each.artifact and each.artifact.path for each in configs}


def test_files_replace_all_versions_and_other_models_stay(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("m", "other"):
        add_fake(repository, name, "3", toml="max_batch_size = 4")
    overrides = Overrides(RUNTIMES)
    with overrides.putting("m", sent(tmp_path / "sent")), overrides.putting("new", sent(tmp_path / "new", "2")):
        pass
    found = overrides.apply(scan(repository, RUNTIMES))
    assert artifacts(found) == {
        "other/3": repository / "other" / "3" / "model.fake.json",
        "m/1": tmp_path / "sent" / "1" / "model.fake.json",
        "new/2": tmp_path / "new" / "2" / "model.fake.json",
    }
    assert {each.name: (each.toml.max_batch_size, each.is_foreign) for each in found} == {
        "other": (4, False),
        "m": (None, True),
        "new": (None, True),
    }
    assert overrides.drop("m")
    assert set(artifacts(overrides.apply(scan(repository, RUNTIMES)))) == {"m/3", "other/3", "new/2"}


def test_a_configuration_alone_is_for_the_files_of_the_repository(tmp_path: Path) -> None:
    file = add_fake(tmp_path, "m", toml="max_batch_size = 4")
    overrides = Overrides(RUNTIMES)
    fingerprints = {scan(tmp_path, RUNTIMES)[0].fingerprint}
    for _ in range(2):  # the same configuration again loads it again
        with overrides.putting("m", Override('{"max_batch_size": 9}')):
            pass
        (config,) = overrides.apply(scan(tmp_path, RUNTIMES))
        fingerprints.add(config.fingerprint)
        assert config.artifact is not None
        assert (config.artifact.path, config.toml.max_batch_size) == (file, 9)
        assert (config.sources["max_batch_size"], config.is_foreign) == ("load request", False)
    assert len(fingerprints) == 3
    assert overrides.apply([]) == []  # its folder is gone


def test_it_repairs_a_broken_configuration(tmp_path: Path) -> None:
    add_fake(tmp_path, "m", toml="max_batch_size = 'many'")
    overrides = Overrides(RUNTIMES)
    with overrides.putting("m", Override("{}")):
        pass
    (config,) = overrides.apply(scan(tmp_path, RUNTIMES))
    assert (config.version, config.problem) == ("1", "")


def test_a_place_is_whatever_serve_accepts(tmp_path: Path) -> None:
    file = add_fake(tmp_path, "x")
    for place in (file, file.parent, tmp_path / "x"):
        overrides = Overrides(RUNTIMES)
        with overrides.putting("m", Override(folder=place)):
            pass
        assert artifacts(overrides.apply([])) == {"m/1": file}
        assert overrides.places() == {"m": str(place)}
    (tmp_path / "empty").mkdir()
    with overrides.putting("m", Override(folder=tmp_path / "empty")):
        pass
    (config,) = overrides.apply([])
    assert "no artifact that a runtime reads: it is empty" in config.problem


def test_an_error_brings_back_what_was_there_before(tmp_path: Path) -> None:
    overrides = Overrides(RUNTIMES)
    first, second = sent(tmp_path / "first"), sent(tmp_path / "second")
    overrides.own(first)
    overrides.own(second)
    with overrides.putting("m", first):
        pass
    with pytest.raises(ValueError, match="no"), overrides.putting("m", second):
        raise ValueError("no")
    assert artifacts(overrides.apply([])) == {"m/1": tmp_path / "first" / "1" / "model.fake.json"}
    asyncio.run(overrides.sweep([]))
    assert entries(tmp_path) == ["first"]
    overrides.drop("m")
    asyncio.run(overrides.sweep([first.folder]))  # a version still runs
    assert (tmp_path / "first").exists()
    asyncio.run(overrides.sweep([]))
    assert not (tmp_path / "first").exists()


def test_one_model_is_loaded_with_one_thing_at_a_time(tmp_path: Path) -> None:
    overrides = Overrides(RUNTIMES)
    first, second, third = (sent(tmp_path / name) for name in ("first", "second", "third"))
    for each in (first, second, third):
        overrides.own(each)
    with overrides.putting("m", first):
        with pytest.raises(Unavailable, match="is being loaded with other files"):  # noqa: SIM117
            with overrides.putting("m", second):
                pass
        assert artifacts(overrides.apply([])) == {"m/1": tmp_path / "first" / "1" / "model.fake.json"}
    with pytest.raises(Unavailable, match="was loaded without these files"):  # noqa: SIM117
        with overrides.putting("m", third):
            overrides.drop("m")
    asyncio.run(overrides.sweep([]))
    assert not list(tmp_path.iterdir())


@run
async def test_a_load_that_is_not_allowed_leaves_nothing(tmp_path: Path) -> None:
    async with managing(Repository("a"), "none") as manager:
        with pytest.raises(Unsupported):
            await LoadRequests(manager).load("a", sent(tmp_path / "a"))
    assert not entries(tmp_path)


@run
async def test_a_load_that_fails_changes_nothing(tmp_path: Path) -> None:
    """No runtime is there, so no file can be loaded."""
    repository = Repository("a")
    async with managing(repository) as manager:
        for name in ("a", "new"):
            with pytest.raises(Unavailable, match=f"failed to load '{name}': no artifact that a runtime reads"):
                await LoadRequests(manager).load(name, sent(tmp_path / name))
        await until(lambda: states(manager) == {"a": "it is broken"})
        with pytest.raises(NotFound):
            await LoadRequests(manager).load("missing", Override("{}"))
        with pytest.raises(NotFound):
            await LoadRequests(manager).unload("new")
    assert not entries(tmp_path)
