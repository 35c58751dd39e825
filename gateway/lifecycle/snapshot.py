"""What the repository holds, from one scan to the next: pure functions, tested as a table."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from gateway.lifecycle.policy import Unit
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
    asked: Collection[str] = (),
    only_asked: bool = False,
) -> Snapshot:
    """After another scan. A file that is still being copied looks different in the next scan, and is another unit.

    before      None at the first scan, when everything is taken as it is
    served      what runs already: it was stable once
    asked       models that are wanted as they are now: nothing of them has to be seen twice
    only_asked  of all other models, what was found before holds
    """
    if before is None:
        return Snapshot(scanned, frozenset(scanned))
    found = scanned
    if only_asked:
        found = {unit: config for unit, config in before.found.items() if unit.model not in asked}
        found |= {unit: config for unit, config in scanned.items() if unit.model in asked}
    stable = (unit for unit in found if unit in before.found or unit in served or unit.model in asked)
    return Snapshot(found, frozenset(stable))
