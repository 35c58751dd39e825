"""The files of the operator are read again when they change; whatever cannot be used changes nothing."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.access import source as module
from gateway.access.jwks import Fetched, JwksError, parse_keys
from gateway.access.keys import digest_of, new_key
from gateway.access.policy import Policy
from gateway.access.source import PolicySource
from gateway.config import SettingsError
from tests.support.tokens import Issuer, key_set

LOG = logging.getLogger("tests.identities")
KEY = new_key()
IDENTITIES = f'[identities.ci]\nroles = ["infer"]\nkey_sha256 = ["{digest_of(KEY)}"]\n'
JWT = '[jwt]\nissuer = "https://issuer.example"\naudience = "modelport"\njwks = '


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_CHECK_S", 0.001)
    caplog.set_level(logging.INFO, LOG.name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "identities.toml").write_text(IDENTITIES)
    return tmp_path / "identities.toml"


def replace_file(path: Path, text: str) -> None:
    """As editors and configuration management do."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


class Watched:
    """A source that runs. `next` returns the next policy that it publishes."""

    def __init__(self, path: Path) -> None:
        self.changes: list[bool] = []
        self.source = PolicySource(path, LOG, self.changes.append)
        self.published: asyncio.Queue[Policy] = asyncio.Queue()
        self.task = asyncio.ensure_future(self.source.run(self.published.put_nowait))

    async def next(self) -> Policy:
        return await asyncio.wait_for(self.published.get(), 30)


def watching(path: Path, test: Callable[[Watched], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        watched = Watched(path)
        try:
            await test(watched)
        finally:
            watched.task.cancel()
            await asyncio.gather(watched.task, return_exceptions=True)

    asyncio.run(run())


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    while text not in caplog.text:  # noqa: ASYNC110 - logging has no event to wait for
        await asyncio.sleep(0.001)


def test_changes_are_published(path: Path) -> None:
    async def test(watched: Watched) -> None:
        assert watched.source.policy.keys == {digest_of(KEY): "ci"}
        replace_file(path, IDENTITIES.replace("ci", "web"))
        policy = await watched.next()
        assert policy.keys == {digest_of(KEY): "web"}
        assert watched.source.policy == policy

    watching(path, test)


def test_a_file_that_is_broken_changes_nothing_and_is_reported_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(watched: Watched) -> None:
        replace_file(path, '[identities.ci]\nroles = ["infre"]')
        await logged(caplog, "the earlier ones stay in use")
        os.unlink(path)
        await logged(caplog, "cannot be read: No such file")
        assert watched.source.reload_failed
        replace_file(path, "")
        assert (await watched.next()).keys == {}
        assert not watched.source.reload_failed
        await logged(caplog, "and are in use")
        assert watched.changes == [False, False, True]

    watching(path, test)
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "'infre' is not a role" in line]) == 1
    assert lines[-1] == "the identities have changed, and are in use"


def test_what_means_the_same_is_not_published(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(watched: Watched) -> None:
        replace_file(path, "# a comment\n" + IDENTITIES)
        replace_file(path, IDENTITIES.replace("infer", "read"))
        await watched.next()
        assert watched.published.empty()

    watching(path, test)


def test_the_folder_of_keys_is_watched(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, first, second = path.parent / "keys", new_key(), new_key()
    (folder / "..1").mkdir(parents=True)
    (folder / "..1" / "ci").write_text(first)
    (folder / "..data").symlink_to("..1")
    (folder / "ci").symlink_to("..data/ci")
    path.write_text(IDENTITIES + '[keys]\nfolder = "keys"')

    async def test(watched: Watched) -> None:
        assert watched.source.policy.keys == {digest_of(key): "ci" for key in (KEY, first)}
        (folder / "..2").mkdir()
        (folder / "..2" / "ci").write_text(second)
        (folder / "..new").symlink_to("..2")
        os.rename(folder / "..new", folder / "..data")
        assert (await watched.next()).keys == {digest_of(key): "ci" for key in (KEY, second)}
        (folder / "web").write_text(first)
        await logged(caplog, "the keys of 'web' grant nothing, because there is no [identities.web]")

    watching(path, test)
    assert caplog.text.count("every user of this machine can read the keys of 'ci'") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[identities.ci]", "the key 'identities.ci.roles' is missing"),
        ('[keys]\nfolder = "nowhere"', "the folder of keys cannot be read: No such file or directory"),
        (JWT + '"nowhere.json"', "the keys of .jwt. cannot be used: they cannot be read: No such file"),
    ],
)
def test_what_is_broken_at_the_start_is_refused(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        PolicySource(path, LOG)


def test_the_key_file_of_an_issuer_is_watched(path: Path) -> None:
    first, second = key_set(Issuer("1")), key_set(Issuer("2"))
    (path.parent / "keys.json").write_bytes(first)
    path.write_text(JWT + '"keys.json"')

    async def test(watched: Watched) -> None:
        assert watched.source.policy.tokens.keys == parse_keys(first)
        replace_file(path.parent / "keys.json", second.decode())
        assert (await watched.next()).tokens.keys == parse_keys(second)

    watching(path, test)


class FakeIssuer:
    """Takes the place of `fetch_keys`."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.answer: Fetched | JwksError = JwksError("the issuer cannot be reached: Connection refused")

    def fetch(self, url: str) -> Fetched:
        self.fetched.append(url)
        if isinstance(self.answer, JwksError):
            raise self.answer
        return self.answer


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> FakeIssuer:
    fake = FakeIssuer()
    monkeypatch.setattr(module, "fetch_keys", fake.fetch)
    monkeypatch.setattr(module, "_REFETCH_S", 0.01)
    return fake


def test_keys_are_fetched_and_an_outage_keeps_the_last_ones(
    path: Path, caplog: pytest.LogCaptureFixture, issuer: FakeIssuer
) -> None:
    first, second = (parse_keys(key_set(Issuer(kid))) for kid in "12")
    path.write_text(JWT + '"https://issuer.example/keys"')

    async def test(watched: Watched) -> None:
        assert watched.source.policy.tokens.keys == ()
        await logged(caplog, "cannot be fetched: the issuer cannot be reached: Connection refused")
        while len(issuer.fetched) < 3:  # noqa: ASYNC110 - it is tried again, by a thread
            await asyncio.sleep(0.001)
        issuer.answer = Fetched(first, 0.01)
        assert (await watched.next()).tokens.keys == first
        issuer.answer = JwksError("the issuer answered with status 500")
        await logged(caplog, "status 500")
        assert watched.source.policy.tokens.keys == first
        issuer.answer = Fetched(second, 3600)
        assert (await watched.next()).tokens.keys == second
        assert watched.published.empty()

    watching(path, test)
    assert caplog.text.count("Connection refused") == 1
    assert caplog.text.count("can be fetched again") == 2
    assert set(issuer.fetched) == {"https://issuer.example/keys"}


def test_an_unknown_key_is_fetched_soon(path: Path, issuer: FakeIssuer) -> None:
    path.write_text(JWT + '"https://issuer.example/keys"')
    issuer.answer = Fetched(parse_keys(key_set(Issuer("1"))), 3600)

    async def test(watched: Watched) -> None:
        await watched.next()
        issuer.answer = Fetched(parse_keys(key_set(Issuer("2"))), 3600)
        for _ in range(100):
            watched.source.refetch()
        assert [key["kid"] for key in (await watched.next()).tokens.keys] == ["2"]
        assert len(issuer.fetched) == 2

    watching(path, test)
