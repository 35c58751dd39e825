"""Sockets are watched in the same way by epoll and by poll."""

import select
import socket
from collections.abc import Iterator

import pytest

from runtimes.worker.poller import READABLE, WRITABLE, Poller


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture(params=["epoll", "poll"])
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Poller:
    if request.param == "poll":
        monkeypatch.delattr(select, "epoll", raising=False)
    elif not hasattr(select, "epoll"):
        pytest.skip("this system has no epoll")
    return Poller()


def test_what_is_readable_is_reported_and_what_is_writable_only_if_watched(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    poller.watch(ours.fileno(), READABLE)
    assert poller.wait(0.0) == []
    theirs.sendall(b"x")
    assert poller.wait(60.0) == [(ours.fileno(), READABLE)]
    poller.watch(ours.fileno(), READABLE | WRITABLE)
    assert poller.wait(60.0) == [(ours.fileno(), READABLE | WRITABLE)]
    poller.watch(ours.fileno(), READABLE)
    assert poller.wait(60.0) == [(ours.fileno(), READABLE)]


def test_the_end_of_a_peer_is_an_event_until_it_is_forgotten(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    poller.watch(ours.fileno(), READABLE)
    theirs.close()
    ((descriptor, events),) = poller.wait(60.0)
    assert descriptor == ours.fileno()
    assert events & ~WRITABLE
    poller.forget(ours.fileno())
    assert poller.wait(0.0) == []
