"""The traffic of models: what their configuration says, and what was changed since, by a request at run time."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from pydantic import ValidationError

from gateway.config import explain
from gateway.domain.traffic import Shadow, Traffic, describe, divide, not_ready, shadow_problem
from gateway.domain.types import ModelStatus, by_model
from gateway.errors import InvalidRequest, Unavailable, shorten, unknown_model
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.policy import State, VersionKey
from gateway.process.niceness import LOWEST, is_reversible, own_nice, set_nice
from gateway.repository.model_config import ModelConfig
from gateway.repository.traffic_config import TrafficToml

log = logging.getLogger("traffic")

# Changes of one model that can be rolled back. Each takes a few hundred bytes.
_MAX_HISTORY = 32


class _Declared(NamedTuple):
    """What the files say. fingerprint: of these files."""

    traffic: Traffic
    fingerprint: str


@dataclass
class _Changed:
    """What was changed at run time. It holds until the files change; history: what held before, the newest last.

    None is what the files say.
    """

    fingerprint: str
    traffic: Traffic | None = None
    history: list[Traffic | None] = field(default_factory=list)


def _declared(config: ModelConfig | None) -> _Declared:
    """Return what the files of a model's newest version say."""
    if config is None:
        return _Declared(Traffic(), "")
    toml = config.toml.traffic
    return _Declared(toml.resolve() if toml else Traffic(), config.config_fingerprint)


class TrafficBook:
    """Holds what is in force for each model. All methods but `collect` run on the supervisor's event loop."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._changed: dict[str, _Changed] = {}
        self._listed: Sequence[ModelStatus] = ()
        self._by_model: Mapping[str, Sequence[ModelStatus]] | None = None  # of those, once it is needed
        self._in_force: Mapping[str, Traffic] = {}
        self._keys: tuple[VersionKey, ...] = ()
        self._declaring: set[str] = set()  # of the versions with these keys
        self._noted: dict[str, list[str]] = {}
        self._nice: set[int] = set()  # the workers whose priority is lowered
        self._is_reversible = is_reversible()

    def apply(self, statuses: Sequence[ModelStatus]) -> Mapping[str, Traffic]:
        """Return the traffic in force of the models that have any, for a table with these versions."""
        self._listed, self._by_model = statuses, None
        divided = self._divided() | self._changed.keys()
        declared = {}
        if divided:
            served = {status.name for status in statuses}
            declared = {name: self._declared(name) for name in sorted(divided & served)}
        for name, changed in list(self._changed.items()):
            if name in declared and declared[name].fingerprint != changed.fingerprint:
                log.info("%s: its configuration has changed, and replaces what was changed at run time", name)
                del self._changed[name]
        traffic = {name: self._changed_traffic(name) or each.traffic for name, each in declared.items()}
        self._in_force = {name: each for name, each in traffic.items() if each.weights or each.shadow}
        for name in self._in_force:
            self._note(name)
        self._set_priorities()
        return self._in_force

    def _divided(self) -> set[str]:
        """Return the models whose files say something about their traffic."""
        keys = tuple(self._manager.versions)
        if keys != self._keys:  # their fingerprints are part of them
            self._keys = keys
            configs = {key.model: each.config for key, each in self._manager.versions.items() if each.config.version}
            self._declaring = {name for name, config in configs.items() if config.toml.traffic}
        return self._declaring

    @property
    def _statuses(self) -> Mapping[str, Sequence[ModelStatus]]:
        if self._by_model is None:
            self._by_model = by_model(self._listed)
        return self._by_model

    def _set_priorities(self) -> None:
        """Let workers of versions that are nothing but shadows use what the others leave of the cores.

        Not if their priority could not be raised again, when the version is promoted.
        """
        shadows = {
            (name, each.shadow.version)
            for name, each in self._in_force.items()
            if each.shadow and not each.weights.get(each.shadow.version)
        }
        if not self._is_reversible or not (shadows or self._nice):
            return
        wanted = {}
        for key, version in self._manager.versions.items():
            for worker in version.workers:
                if worker.pid is not None and worker.ready and (key[:2] in shadows or worker.pid in self._nice):
                    wanted[worker.pid] = key[:2] in shadows
        for pid, is_shadow in wanted.items():
            if is_shadow and pid not in self._nice:
                if set_nice(pid, LOWEST):
                    self._nice.add(pid)
            elif not is_shadow:
                set_nice(pid, own_nice())
        self._nice = {pid for pid in self._nice if wanted.get(pid)}

    def _declared(self, name: str) -> _Declared:
        configs = [version.config for key, version in self._manager.versions.items() if key.model == name]
        return _declared(next((each for each in reversed(configs) if each.version), None))

    def _traffic(self, name: str) -> Traffic:
        return self._changed_traffic(name) or self._declared(name).traffic

    def _changed_traffic(self, name: str) -> Traffic | None:
        """Return what was set at run time; None if what the files say is in force."""
        changed = self._changed.get(name)
        return None if changed is None else changed.traffic

    def get(self, name: str) -> dict[str, Any]:
        """Return what is in force, and what follows from it for each version. Raises NotFound."""
        versions, traffic = self._versions(name), self._traffic(name)
        division, changed = divide(traffic, versions), self._changed.get(name)
        newest = next((status for status in versions if status.admits), None)
        shares = division.shares if division else {}
        if not traffic.weights and newest is not None:
            shares = {newest.version: 1.0}
        reasons = division.reasons if division else not_ready(traffic, versions)
        states = {status.version: status.state for status in versions}
        states |= dict.fromkeys([version for version in reasons if version not in states], "UNAVAILABLE")
        is_changed = changed is not None and changed.traffic is not None
        declared = traffic.weights or traffic.shadow or traffic.sticky_header or traffic.sticky_identity
        return {
            "model": name,
            "weights": dict(traffic.weights),
            "sticky_header": traffic.sticky_header,
            "sticky_identity": traffic.sticky_identity,
            "shadow": traffic.shadow._asdict() if traffic.shadow else None,
            "source": "run time" if is_changed else "model.toml" if declared else "default",
            "can_roll_back": changed is not None and bool(changed.history),
            "versions": [
                {
                    "version": version,
                    "state": state,
                    "share": round(shares.get(version, 0.0), 9),
                    "reason": reasons.get(version, ""),
                }
                for version, state in states.items()
            ],
            "shadow_problem": self._shadow_problem(name, traffic.shadow) or self._unloaded_shadow(name, traffic.shadow),
        }

    def change(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change the keys that are named. Raises NotFound, InvalidRequest, Unavailable."""
        versions, traffic = self._versions(name), self._traffic(name)
        current = {**traffic._asdict(), "shadow": traffic.shadow._asdict() if traffic.shadow else None}
        empty = {"weights": {}, "sticky_header": "", "sticky_identity": False, "shadow": None}
        merged = {**current, **{key: empty.get(key) if value is None else value for key, value in changes.items()}}
        shadow = merged["shadow"]
        try:
            if isinstance(shadow, Mapping) and not shadow.get("of"):
                weights = TrafficToml.model_validate({**merged, "shadow": None}).resolve().weights
                merged["shadow"] = {**shadow, "of": _primary(weights, versions)}
            wanted = TrafficToml.model_validate(merged).resolve()
        except ValidationError as error:
            raise InvalidRequest(explain(error, lambda _: "the request", TrafficToml)) from None
        self._check(name, wanted, versions)
        self._set(name, wanted)

    def promote(self, name: str, version: str) -> None:
        """Have a version get all requests that name none. Raises as `change` does."""
        traffic = self._traffic(name)
        if not version.isdecimal():
            raise InvalidRequest(f"'{shorten(version)}' is not the number of a version; promote one by its number")
        changes: dict[str, Any] = {"weights": {version: 100}}
        if traffic.shadow is not None and traffic.shadow.version == version.lstrip("0"):
            changes["shadow"] = None
        self.change(name, changes)

    def roll_back(self, name: str) -> None:
        """Return to what was in force before the newest change. Raises NotFound, InvalidRequest, Unavailable."""
        versions = self._versions(name)
        changed = self._changed.get(name)
        if changed is None or not changed.history:
            raise InvalidRequest(
                f"the traffic of model '{name}' was not changed at run time; there is nothing before it"
            )
        before = changed.history[-1]
        if before is not None:
            self._check(name, before, versions)
        changed.history.pop()
        changed.traffic = before
        self._log(name)

    def _set(self, name: str, traffic: Traffic) -> None:
        changed = self._changed.setdefault(name, _Changed(self._declared(name).fingerprint))
        changed.history = [*changed.history, changed.traffic][-_MAX_HISTORY:]
        changed.traffic = traffic
        self._log(name)

    def _versions(self, name: str) -> Sequence[ModelStatus]:
        """Raises NotFound."""
        versions = self._statuses.get(name)
        if not versions:
            raise unknown_model(name)
        return versions

    def _check(self, name: str, traffic: Traffic, versions: Sequence[ModelStatus]) -> None:
        """Raises InvalidRequest if a version is not loaded, and Unavailable if none could answer."""
        loaded = [status.version for status in versions if status.version]
        for version in sorted(traffic.versions - set(loaded), key=int):
            raise InvalidRequest(
                f"version {version} of model '{name}' is not loaded, only {', '.join(loaded)}; add it to "
                "version_policy in the model's configuration"
            )
        if any(traffic.weights.values()) and divide(traffic, versions) is None:
            weighted = [each for each in versions if traffic.weights.get(each.version)]
            states = ", ".join(f"{each.version} is {each.state}" for each in weighted)
            raise Unavailable(f"no version with a weight could answer: {states}; try again when it is READY")
        if problem := self._shadow_problem(name, traffic.shadow):
            raise InvalidRequest(problem)

    def _shadow_problem(self, name: str, shadow: Shadow | None) -> str:
        """Return why no request is copied, in one sentence; "" if nothing prevents it."""
        found = {status.version: status for status in self._statuses.get(name, ())}
        if shadow is None or shadow.version not in found or shadow.of not in found:
            return ""
        return shadow_problem(found[shadow.version], found[shadow.of])

    def _unloaded_shadow(self, name: str, shadow: Shadow | None) -> str:
        """Return why no request is copied now, if that is because the shadow is loaded on demand; otherwise ""."""
        found = {status.version: status for status in self._statuses.get(name, ())}
        if shadow is None or shadow.version not in found or found[shadow.version].state != "UNLOADED":
            return ""
        return f"nothing is copied while version {shadow.version} is UNLOADED; load it, since copies do not"

    def _log(self, name: str) -> None:
        log.info("%s: %s", name, describe(self._traffic(name)))

    def _note(self, name: str) -> None:
        """Log, once, why versions with a weight get no requests."""
        traffic, versions = self._in_force[name], self._statuses[name]
        division = divide(traffic, versions)
        reasons = division.reasons if division else not_ready(traffic, versions)
        notes = [
            f"version {version} gets none of its share: {reason}"
            for version, reason in reasons.items()
            if not reason.startswith(f"it is {State.LOADING}")  # it is on its way
        ]
        if problem := self._shadow_problem(name, traffic.shadow):
            notes.append(problem)
        for note in notes:
            if note not in self._noted.get(name, ()):
                log.warning("%s: %s", name, note)
        self._noted[name] = notes

    def collect(self) -> Iterator[Metric]:
        """Yield the shares as a metric. Thread-safe."""
        labels = ["model", "version"]
        wanted = GaugeMetricFamily(
            "modelport_traffic_weight", "The version's declared part of the requests without a version", labels=labels
        )
        given = GaugeMetricFamily(
            "modelport_traffic_share", "The version's part of the requests without a version, now", labels=labels
        )
        statuses = self._statuses
        for name, traffic in self._in_force.items():
            total = sum(traffic.weights.values())
            division = divide(traffic, statuses.get(name, ()))
            for version, weight in traffic.weights.items():
                wanted.add_metric([name, version], weight / total if total else 0.0)
                given.add_metric([name, version], division.shares.get(version, 0.0) if division else 0.0)
        yield from (wanted, given)


def _primary(weights: Mapping[str, float], versions: Sequence[ModelStatus]) -> str:
    """Return the version that gets most requests without a version; "" if there is none."""
    division = divide(Traffic(weights), versions)
    if division is not None:
        return division.primary.version
    return next((status.version for status in versions if status.admits), "")
