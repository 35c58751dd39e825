"""What the repository holds, from one scan to the next: pure functions, tested as a table."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from gateway.repository.policy import Unit
from gateway.repository.scan import ModelConfig


@dataclass(frozen=True)
class Snapshot:
    """What may be served.

    found   every version that there is to serve, whether or not it is wanted
    stable  those of `found` that may be loaded: their files have stopped changing
    """

    found: Mapping[Unit, ModelConfig] = field(default_factory=dict)
    stable: Collection[Unit] = frozenset()

    def wanted(self, is_wanted: Callable[[str], bool]) -> "Snapshot":
        """Only the models whose names are wanted."""
        return replace(self, found={unit: config for unit, config in self.found.items() if is_wanted(unit.model)})

    def loadable(self) -> dict[Unit, ModelConfig]:
        return {unit: config for unit, config in self.found.items() if unit in self.stable}

    def changing(self) -> set[str]:
        """Models with a version whose files may still be changing."""
        return {unit.model for unit in self.found if unit not in self.stable}


def next_snapshot(
    before: Snapshot | None,
    scanned: Mapping[Unit, ModelConfig],
    served: Collection[Unit],
    only: Collection[str] | None = None,
    at_once: bool = False,
) -> Snapshot:
    """After another scan. A file that is still being copied looks different in the next scan, and is another unit.

    before   None at the first scan, when everything is taken as it is
    served   what runs already: it was stable once
    only     the models that this scan is about; of all others, what was found before holds. None: all models
    at_once  nothing has to be seen twice: somebody has asked for what is there now
    """
    if before is None:
        return Snapshot(scanned, frozenset(scanned))
    found = scanned
    if only is not None:
        found = {unit: config for unit, config in before.found.items() if unit.model not in only}
        found |= {unit: config for unit, config in scanned.items() if unit.model in only}
    seen = found if at_once else before.found
    return Snapshot(found, frozenset(unit for unit in found if unit in seen or unit in served))
