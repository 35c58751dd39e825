"""The policy of this gateway: the operator's, or what is safe without one. See gateway/access/."""

import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from gateway.access.access import PolicyAccess
from gateway.access.policy import NO_ADMIN, Policy
from gateway.access.source import PolicySource
from gateway.config import Settings, SettingsError
from gateway.domain.caller import Caller, Event
from gateway.domain.identity import Identity
from gateway.errors import InvalidRequest, ModelportError

# What the audit log records when the operator has changed the identities' files. Nobody has sent it.
_RELOADED = Event("admin", "", "", "", "identities")
_ANYONE = "anyone who reaches this server may query its models and read about them"


class Identities:
    """Raises SettingsError if the operator's files cannot be used.

    policy  the current one; None if everything is allowed
    note    what the operator should know about who may do what; "" for nothing
    """

    def __init__(
        self, settings: Settings, ports: Iterable[socket.socket], record: Callable[[Event], None], log: logging.Logger
    ) -> None:
        if settings.identities and settings.allow_anonymous_admin:
            raise SettingsError(
                "allow_anonymous_admin has no effect with identities; leave it out, and list the roles of clients "
                "without credentials under [anonymous]"
            )

        def on_change(is_used: bool) -> None:
            record(_RELOADED if is_used else _RELOADED._replace(outcome=InvalidRequest.kind))

        self._source: PolicySource | None = None
        if settings.identities:
            path, has_client_ca = Path(settings.identities), bool(settings.tls_client_ca)
            self._source = PolicySource(path, log, on_change, has_client_ca)
        self.policy: Policy | None = None
        self.note = ""
        if self._source is not None:
            self.policy = self._source.policy
        elif not settings.tls_client_ca and not all(map(_is_loopback, ports)):
            if settings.allow_anonymous_admin:
                self.note = f"{_ANYONE}, and load, unload and export them (--allow-anonymous-admin)"
            else:
                self.policy = NO_ADMIN
                self.note = f"{_ANYONE}, but nobody may change it; to permit that, configure --identities"
        self._metrics = None if self.policy is None else MetricsAccess(self.policy, record, self.refetch)

    @property
    def check_metrics(self) -> "Callable[[Caller], Identity] | None":
        """What checks the clients of the metrics port, on any thread."""
        return None if self._metrics is None else self._metrics.check

    @property
    def requires_keys(self) -> bool:
        """Whether clients without credentials may query no model."""
        return self.policy is not None and not self.policy.anonymous.grants.get("infer")

    def reloads(self) -> dict[str, bool]:
        """Return whether the operator's files, and the keys of the tokens' issuer, could last be read again."""
        source = self._source
        if source is None:
            return {}
        fetch = {} if source.fetch_failed is None else {"token_keys": not source.fetch_failed}
        return {"identities": not source.reload_failed, **fetch}

    async def run(self, publish: Callable[[Policy], None]) -> None:
        """Call `publish` with each new policy, until cancelled."""

        def use(policy: Policy) -> None:
            self.policy = policy
            if self._metrics is not None:
                self._metrics.apply(policy)
            publish(policy)

        if self._source is not None:
            await self._source.run(use)

    def refetch(self) -> None:
        """Fetch the keys of the tokens' issuer soon, because there is a token with another one. From any thread."""
        if self._source is not None:
            self._source.refetch()


class MetricsAccess:
    """Access to the metrics port, whose threads share it."""

    def __init__(self, policy: Policy, record: Callable[[Event], None], on_unknown: Callable[[], None]) -> None:
        self._lock = Lock()
        self._access = PolicyAccess(policy, record, on_unknown=on_unknown)

    def apply(self, policy: Policy) -> None:
        with self._lock:
            self._access.apply(policy)

    def check(self, caller: Caller) -> Identity:
        """Raises ModelportError unless the client may see metrics."""
        name = ""
        try:
            with self._lock:
                identity = self._access.identify(caller)
                name = identity.name
                identity.check("metrics")
        except ModelportError as error:
            self._access.record(Event("metrics", "", caller.peer, name, "GET /metrics", error.kind))
            raise
        return identity


def _is_loopback(port: socket.socket) -> bool:
    address = ipaddress.ip_address(port.getsockname()[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
