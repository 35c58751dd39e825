"""What protects the gateway and its machine, and what this machine does not enforce: log, /v2/security, metrics."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from gateway.config import Settings
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
    off = "" if settings.sandbox else "the setting sandbox is off"
    found = {f"sandbox_{name}": Protection(not (off or missing), off or missing) for name, missing in features()}
    found["memory_limit"] = _memory_limit(no_memory_groups)
    return found


def _memory_limit(no_groups: str) -> Protection:
    if not no_groups:
        return Protection(True, "by a control group")
    if IS_LINUX:
        return Protection(True, f"by RLIMIT_DATA and a check four times a second, because {no_groups}")
    return Protection(False, "only a check four times a second, because this is not Linux")


class SecurityStatus:
    """Everything that protects this gateway, by the name of its feature."""

    def __init__(self, protections: Mapping[str, Protection]) -> None:
        self._protections = dict(protections)

    def log(self) -> None:
        """Say once what this machine does not enforce."""
        missing = {name: each.reason for name, each in self._protections.items() if not each.enforced}
        for reason in dict.fromkeys(missing.values()):
            names = ", ".join(name for name in missing if missing[name] == reason)
            log.warning("security: not enforced: %s: %s", names, reason)
        if not missing:
            log.info("security: this machine enforces every limit of workers")

    def to_json(self) -> dict[str, dict[str, object]]:
        return {name: asdict(each) for name, each in self._protections.items()}

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "modelport_security_enforced", "1 if this protection is in force, 0 if not", labels=["feature"]
        )
        for name, each in self._protections.items():
            family.add_metric([name], each.enforced)
        yield family
