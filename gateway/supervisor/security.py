"""What protects the gateway and its machine, and what this machine does not enforce: log, /v2/security, metrics."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from gateway.config import Settings
from gateway.front import box
from gateway.process.cgroup import MemoryGroups, NotDelegated
from runtimes.sandbox.box import features
from runtimes.sandbox.kernel import IS_LINUX

log = logging.getLogger("gateway")


@dataclass(frozen=True)
class Protection:
    """enforced: whether it is in force. reason: why it is not, or how it is; "" if there is nothing to say."""

    enforced: bool
    reason: str = ""


def delegated_memory_groups() -> tuple[MemoryGroups | None, str]:
    """Return the control groups for memory limits; None if there are none, and why."""
    try:
        return MemoryGroups(), ""
    except NotDelegated as error:
        return None, str(error)


def worker_protections(settings: Settings, no_memory_groups: str) -> dict[str, Protection]:
    """Return what limits a worker, by feature. no_memory_groups: why no control group limits memory; "" if one does."""
    found = _box("sandbox", features(), settings)
    found["memory_limit"] = _memory_limit(no_memory_groups)
    return found


def front_protections(settings: Settings) -> dict[str, Protection]:
    """Return what limits a front, by feature."""
    return _box("front", box.features(), settings)


def _box(whose: str, features: Iterable[tuple[str, str]], settings: Settings) -> dict[str, Protection]:
    off = "" if settings.sandbox else "the setting sandbox is off"
    return {f"{whose}_{name}": Protection(not (off or missing), off or missing) for name, missing in features}


def _memory_limit(no_groups: str) -> Protection:
    if not no_groups:
        return Protection(True, "by a control group")
    if IS_LINUX:
        return Protection(True, f"by RLIMIT_DATA and a check four times a second, because {no_groups}")
    return Protection(False, "only a check four times a second, because this is not Linux")


def server_protections(settings: Settings, note: str) -> dict[str, Protection]:
    """Return what the operator has configured against clients, by feature. note: see Identities."""
    return {
        "tls": _configured(settings.tls_cert, "the ports speak plain text; tls_cert and tls_key change that"),
        "client_certificates": _configured(settings.tls_client_ca, "tls_client_ca is not set"),
        "identities": _configured(settings.identities, note or "identities is not set; only this machine is served"),
        "audit_log": _configured(settings.audit_log, "audit_log is not set"),
    }


def _configured(setting: str, otherwise: str) -> Protection:
    return Protection(True) if setting else Protection(False, otherwise)


class SecurityStatus:
    """Everything that protects this gateway, by the name of its feature.

    processes  what limits workers and fronts; the log has what this machine does not enforce
    server     what is configured against clients
    """

    def __init__(self, processes: Mapping[str, Protection], server: Mapping[str, Protection]) -> None:
        self._processes = processes
        self._protections = {**server, **processes}

    def log(self) -> None:
        """Say once what this machine does not enforce."""
        missing = {name: each.reason for name, each in self._processes.items() if not each.enforced}
        for reason in dict.fromkeys(missing.values()):
            names = ", ".join(name for name in missing if missing[name] == reason)
            log.warning("security: not enforced: %s: %s", names, reason)
        if not missing:
            log.info("security: this machine enforces every limit of workers and fronts")

    def to_json(self) -> dict[str, dict[str, object]]:
        return {name: asdict(each) for name, each in self._protections.items()}

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "modelport_security_enforced", "1 if this protection is in force, 0 if not", labels=["feature"]
        )
        for name, each in self._protections.items():
            family.add_metric([name], each.enforced)
        yield family
