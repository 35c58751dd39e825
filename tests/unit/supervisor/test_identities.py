"""Who may do what if the operator has configured nothing: it depends on who can reach the ports."""

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.access.keys import digest_of
from gateway.access.policy import NO_ADMIN
from gateway.config import Settings, SettingsError
from gateway.domain.caller import Caller, Event
from gateway.errors import Forbidden, Unauthenticated
from gateway.supervisor.identities import Identities

LOG = logging.getLogger("tests.identities")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def identities(stack: ExitStack, *hosts: str, **settings: object) -> Identities:
    ports = []
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        port = stack.enter_context(socket.socket(family))
        port.bind((host, 0))  # nothing listens
        ports.append(port)
    return Identities(Settings(**settings), ports, lambda event: None, LOG)


@pytest.mark.parametrize("hosts", [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "::1")])
def test_loopback_allows_everything(stack: ExitStack, hosts: tuple[str, ...]) -> None:
    found = identities(stack, *hosts)
    assert (found.policy, found.note, found.check_metrics) == (None, "", None)


@pytest.mark.parametrize("hosts", [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "::"), ("0.0.0.0", "::")])
def test_on_a_network_nobody_changes_the_server(stack: ExitStack, hosts: tuple[str, ...]) -> None:
    found = identities(stack, *hosts)
    assert found.policy is NO_ADMIN
    assert found.note.endswith("but nobody may change it; to permit that, configure --identities")
    assert identities(stack, *hosts, tls_cert="c", tls_key="k").policy is NO_ADMIN


def test_client_certificates_and_consent_allow_everything(stack: ExitStack) -> None:
    certified = identities(stack, "0.0.0.0", tls_cert="c", tls_key="k", tls_client_ca="ca")
    assert (certified.policy, certified.note) == (None, "")
    agreed = identities(stack, "0.0.0.0", allow_anonymous_admin=True)
    assert agreed.policy is None
    assert agreed.note.endswith("and load, unload and export them (--allow-anonymous-admin)")


def test_identities_decide_on_loopback_as_well(stack: ExitStack, tmp_path: Path) -> None:
    file, key = tmp_path / "identities.toml", "mp_" + "k" * 43
    file.write_text(f'[identities.prometheus]\nroles = ["metrics"]\nkey_sha256 = ["{digest_of(key)}"]')
    events: list[Event] = []
    found = Identities(Settings(identities=str(file)), [], events.append, LOG)
    assert found.check_metrics is not None
    assert found.check_metrics(Caller("here", [("authorization", f"Bearer {key}")])).name == "prometheus"
    with pytest.raises(Unauthenticated):
        found.check_metrics(Caller("here", []))
    with pytest.raises(Unauthenticated):
        found.check_metrics(Caller("here", [("x-api-key", "wrong")]))
    assert [(event.action, event.peer, event.identity, event.outcome) for event in events] == [
        ("metrics", "here", "anonymous", "unauthenticated"),
        ("metrics", "here", "", "unauthenticated"),
    ]
    file.write_text(f'[identities.ci]\nroles = ["infer"]\nkey_sha256 = ["{digest_of(key)}"]')
    with pytest.raises(Forbidden, match="these credentials do not permit 'metrics'"):
        Identities(Settings(identities=str(file)), [], events.append, LOG).check_metrics(
            Caller("here", [("authorization", f"Bearer {key}")])
        )
    with pytest.raises(SettingsError, match="allow_anonymous_admin has no effect with identities"):
        Identities(Settings(identities=str(file), allow_anonymous_admin=True), [], events.append, LOG)
