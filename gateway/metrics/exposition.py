"""Metric families, and their text in Prometheus' exposition format.

prometheus_client has the same, but importing it takes 2 MiB of the supervisor's memory, most of it for an HTTP server
and client.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Collect = Callable[[], Iterable["Family"]]


class Family:
    """Samples with one name, or with names that begin with it.

    labels  the names of the labels whose values `add` gets
    kind    a counter's samples get the suffix _total
    """

    def __init__(
        self,
        name: str,
        help: str,
        kind: Literal["counter", "gauge", "histogram", "untyped"],
        labels: Sequence[str] = (),
    ) -> None:
        self._name = f"{name}_total" if kind == "counter" else name
        self._help, self._kind, self._labels = help, kind, tuple(labels)
        self._lines: list[str] = []

    def add(self, values: Sequence[str], number: float) -> None:
        """Add a sample with these values of the labels."""
        self._add("", dict(zip(self._labels, values, strict=True)), number)

    def add_histogram(self, values: Sequence[str], buckets: Iterable[tuple[str, float]], total: float) -> None:
        """Add a histogram. `buckets` are upper bounds with cumulated counts, the last one +Inf; `total` is the sum."""
        labels = dict(zip(self._labels, values, strict=True))
        count = 0.0
        for bound, count in buckets:
            self._add("_bucket", {**labels, "le": bound}, count)
        self._add("_count", labels, count)
        self._add("_sum", labels, total)

    def text(self) -> str:
        help = self._help.replace("\\", "\\\\").replace("\n", "\\n")
        return "".join([f"# HELP {self._name} {help}\n# TYPE {self._name} {self._kind}\n", *self._lines])

    def _add(self, suffix: str, labels: Mapping[str, str], number: float) -> None:
        pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(labels.items()))
        braces = f"{{{pairs}}}" if pairs else ""
        self._lines.append(f"{self._name}{suffix}{braces} {_number(number)}\n")


def _number(number: float) -> str:
    text = repr(float(number))
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def text(families: Iterable[Family]) -> str:
    """Return the body of an answer of CONTENT_TYPE."""
    return "".join(family.text() for family in families)
