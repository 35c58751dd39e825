"""The metrics of some models only, for clients whose role is limited to these."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from fnmatch import fnmatchcase

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector


def select(registry: CollectorRegistry, patterns: Sequence[str]) -> CollectorRegistry:
    """Return a registry of what clients with these patterns of models may see: everything for "*"."""
    if "*" in patterns:
        return registry
    selected = CollectorRegistry(auto_describe=False)
    selected.register(_OfModels(registry, lambda model: any(fnmatchcase(model, pattern) for pattern in patterns)))
    return selected


class _OfModels(Collector):
    """Leaves out samples without a model, too, because those of worker processes name one in another way."""

    def __init__(self, registry: CollectorRegistry, allows: Callable[[str], bool]) -> None:
        self._registry, self._allows = registry, allows

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            samples = [sample for sample in metric.samples if self._is_allowed(sample.labels)]
            if samples:
                selected = copy(metric)
                selected.samples = samples
                yield selected

    def describe(self) -> Iterable[Metric]:
        return ()

    def _is_allowed(self, labels: dict[str, str]) -> bool:
        model = labels.get("model", "")
        return model != "" and self._allows(model)
