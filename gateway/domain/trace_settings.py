"""Which requests are traced: the settings of Triton's trace extension, which can be changed while the gateway runs.

The supervisor has a TraceTable. Each front has a TraceSampler, which gets a record of the table whenever it changes.
"""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest, Unsupported, shorten

OFF, TIMESTAMPS, MODE = "OFF", "TIMESTAMPS", "opentelemetry"
# The scope of the settings of all models that have none of their own. Other scopes are names of models.
GLOBAL = ""
UNLIMITED = -1
_MAX = 2**31 - 1
_NAMES = ("trace_level", "trace_rate", "trace_count", "trace_mode", "trace_file", "log_frequency")


@dataclass(frozen=True)
class TraceSettings:
    """What holds for a model.

    rate   one of this many requests is traced; 0: only those whose traceparent says so
    count  how many more requests are traced; UNLIMITED: any number
    """

    enabled: bool = False
    rate: float = 1000
    count: int = UNLIMITED

    def to_json(self) -> dict[str, Any]:
        """Return them as Triton does in its mode for OpenTelemetry."""
        return {
            "trace_level": [TIMESTAMPS if self.enabled else OFF],
            "trace_rate": str(round(self.rate)),
            "trace_count": str(self.count),
            "trace_mode": MODE,
        }


class _Budget:
    """How many requests may be traced, which is divided among the fronts.

    serial  says which number this is: one that is set anew has another
    free    what no front has
    held    by the number of a front, what it has left, as far as it has reported
    """

    def __init__(self, serial: int, size: int) -> None:
        self.serial, self.free, self.held = serial, size, dict[int, int]()

    @property
    def left(self) -> int:
        return self.free if self.free == UNLIMITED else self.free + sum(self.held.values())

    def grant(self, front: int, fronts: int) -> int:
        """Return what a front has, which is an equal share if it has none yet. `fronts`: how many there are."""
        if self.free == UNLIMITED:
            return UNLIMITED
        if front not in self.held:
            self.held[front] = -(-self.free // max(1, fronts - len(self.held)))
            self.free -= self.held[front]
        return self.held[front]


class TraceTable:
    """What was set for each scope. What was not set for a model is as in GLOBAL, and what was not set there, `default`.

    refusal  why tracing cannot be switched on, as a sentence; "" if traces are exported

    The requests of all models that have no number of their own count together.
    """

    def __init__(self, default: TraceSettings, refusal: str = "") -> None:
        self._refusal = refusal
        self._serials = itertools.count(1)
        self._default = {
            "enabled": default.enabled, "rate": default.rate, "budget": _Budget(next(self._serials), default.count)
        }  # fmt: skip
        self._own: dict[str, dict[str, Any]] = {GLOBAL: {}}

    def settings(self, model: str = GLOBAL) -> TraceSettings:
        values = self._values(model)
        return TraceSettings(values["enabled"], values["rate"], values["budget"].left)

    def change(self, model: str, changes: Mapping[str, Any]) -> None:
        """Change settings of a model, or of GLOBAL. None clears a setting.

        Raises InvalidRequest, and Unsupported for what Triton could do.
        """
        read = dict(each for name, value in changes.items() for each in _read(name, value))
        if read.get("enabled") and self._refusal:
            raise Unsupported(self._refusal)
        if read.get("budget") is not None:
            read["budget"] = _Budget(next(self._serials), read["budget"])
        own = {**self._own.get(model, {}), **read}
        self._own[model] = {name: value for name, value in own.items() if value is not None}
        if not self._own[model] and model != GLOBAL:
            del self._own[model]

    def to_front(self, front: int, fronts: int) -> dict[str, Any]:
        """Return the record for the TraceSampler of a front. `fronts`: how many there are."""
        found = {}
        for scope in self._own:
            values = self._values(scope)
            budget = values["budget"]
            found[scope] = [values["enabled"], values["rate"], budget.serial, budget.grant(front, fronts)]
        return found

    def on_traced(self, front: int, traced: Mapping[str, int]) -> None:
        """A front has traced: see TraceSampler.take_traced."""
        for budget in self._budgets():
            if front in budget.held:
                budget.held[front] = max(0, budget.held[front] - traced.get(str(budget.serial), 0))

    def on_front_ended(self, front: int) -> None:
        """Others may trace what this front did not."""
        for budget in self._budgets():
            budget.free += budget.held.pop(front, 0)

    def _values(self, scope: str) -> dict[str, Any]:
        return {**self._default, **self._own[GLOBAL], **self._own.get(scope, {})}

    def _budgets(self) -> list[_Budget]:
        return [values["budget"] for values in (self._default, *self._own.values()) if "budget" in values]


class _Rule:
    """What a front does with the requests of one scope. `seen`: the requests since the last that was to be traced."""

    __slots__ = ("enabled", "rate", "seen", "serial")

    def __init__(self, enabled: bool, rate: float, serial: int) -> None:
        self.enabled, self.rate, self.serial, self.seen = enabled, rate, serial, 0.0


class TraceSampler:
    """Decides in a front which requests are traced."""

    def __init__(self) -> None:
        self._rules = {GLOBAL: _Rule(False, 0, 0)}
        self._left: dict[int, int] = {}  # by serial number
        self._traced: Counter[str] = Counter()

    @property
    def enabled(self) -> bool:
        """Whether any request may be traced."""
        return any(rule.enabled for rule in self._rules.values())

    def apply(self, record: Mapping[str, Any]) -> None:
        """Use the record of `TraceTable.to_front`."""
        self._rules, before = {}, self._left
        self._left = {}
        for scope, (enabled, rate, serial, share) in record.items():
            self._rules[scope] = _Rule(enabled, rate, serial)
            if share != UNLIMITED:
                self._left[serial] = before.get(serial, share)

    def samples(self, model: str, parent: bool | None = None) -> bool:
        """Whether to trace this request.

        parent  whether the caller traces it, as its traceparent says; None without one
        """
        rule = self._rules.get(model) or self._rules[GLOBAL]
        if not rule.enabled or parent is not None:
            return rule.enabled and bool(parent)
        rule.seen += 1
        if not rule.rate or rule.seen < rule.rate:
            return False
        rule.seen -= rule.rate  # not 0, so that a rate that is no integer is met on average
        left = self._left.get(rule.serial)
        if left is not None:
            if not left:
                return False
            self._left[rule.serial] = left - 1
            self._traced[str(rule.serial)] += 1
        return True

    def take_traced(self) -> dict[str, int]:
        """Return how many requests were traced since the last call, for `TraceTable.on_traced`."""
        traced, self._traced = self._traced, Counter()
        return dict(traced)


def _read(name: str, value: Any) -> list[tuple[str, Any]]:
    """Return the change as (name, value), or nothing if it is none. Raises InvalidRequest, Unsupported."""
    if name == "trace_level":
        return [("enabled", None if value is None else _level(value))]
    if name == "trace_rate":
        return [("rate", None if value is None else _integer(name, value, 0))]
    if name == "trace_count":
        return [("budget", None if value is None else _integer(name, value, UNLIMITED))]
    if name == "trace_mode":
        if value not in (None, MODE):
            raise Unsupported(f"'{name}' can only be '{MODE}': traces are sent to a collector of OpenTelemetry")
        return []
    if name in ("trace_file", "log_frequency"):
        if value not in (None, "", "0"):
            raise Unsupported(f"'{name}' cannot be set, because traces are sent to a collector of OpenTelemetry")
        return []
    raise InvalidRequest(f"there is no trace setting '{shorten(name)}'; the settings are {', '.join(_NAMES)}")


def _level(value: Any) -> bool:
    levels = [value] if isinstance(value, str) else value
    if levels == ["TENSORS"] or (isinstance(levels, list) and sorted(map(str, levels)) == ["TENSORS", TIMESTAMPS]):
        raise Unsupported(f"'trace_level' cannot be 'TENSORS', because tensors are not traced; use '{TIMESTAMPS}'")
    if levels not in ([OFF], [TIMESTAMPS]):
        raise InvalidRequest(f"'trace_level' must be a list that contains '{OFF}' or '{TIMESTAMPS}', and nothing else")
    return bool(levels == [TIMESTAMPS])


def _integer(name: str, value: Any, least: int) -> int:
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not least <= number <= _MAX:
        raise InvalidRequest(f"'{name}' must be an integer from {least} to {_MAX}, as a string")
    return number
