"""What a front counts of the copies that it has sent to a shadow: outcomes, and how much the answers differ."""

from collections.abc import Mapping
from typing import Any

from gateway.engine.metrics import Histogram

# Bounds of the largest |a - b|, and of the same divided by the largest |a|: 0 is no difference at all.
DIFFERENCE_BUCKETS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e4)
RELATIVE_BUCKETS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 1e-1, 5e-1, 1.0)
# An infinite difference, such as that of 1 from 0, counts as this much, because a sum with infinity says nothing.
_MOST = 1e30
# Outputs that are told apart. A worker may be hostile and return any names.
_MAX_OUTPUTS = 64
# compared: the answers have the same form. dropped: too many copies were in progress, or the answer is too large.
# failed: the shadow gave no answer, unavailable: it was not READY. form: outputs, datatypes or shapes differ.
# not_finite: NaN or infinity is in one answer and not in the same place in the other.
OUTCOMES = ("compared", "dropped", "failed", "unavailable", "form", "not_finite")


class OutputDifferences:
    """same, different: rows whose highest score is at the same, or at another, class."""

    def __init__(self) -> None:
        self.absolute, self.relative = Histogram(DIFFERENCE_BUCKETS), Histogram(RELATIVE_BUCKETS)
        self.same = self.different = 0


class ShadowMetrics:
    """The metrics of one shadow. They are not those of a model's requests, which users are billed by."""

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.outputs: dict[str, OutputDifferences] = {}

    def count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def observe(self, output: str, absolute: float, relative: float, same: int, different: int) -> None:
        found = self.outputs.get(output)
        if found is None:
            if len(self.outputs) >= _MAX_OUTPUTS:
                return
            found = self.outputs[output] = OutputDifferences()
        found.absolute.observe(min(absolute, _MOST))
        found.relative.observe(min(relative, _MOST))
        found.same += same
        found.different += different

    def snapshot(self) -> dict[str, Any]:
        return {
            "outcomes": dict(self.outcomes),
            "outputs": {
                name: {
                    "absolute": each.absolute.snapshot(),
                    "relative": each.relative.snapshot(),
                    "same": each.same,
                    "different": each.different,
                }
                for name, each in self.outputs.items()
            },
        }


def add_shadows(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the sum of two snapshots, of which either may be empty, and neither is changed."""
    if not one or not other:
        return one or other
    outputs = {name: dict(each) for name, each in one["outputs"].items()}
    for name, each in other["outputs"].items():
        found = outputs.get(name)
        if found is None:
            outputs[name] = each
            continue
        for kind in ("absolute", "relative"):
            counts = [a + b for a, b in zip(found[kind]["counts"], each[kind]["counts"], strict=True)]
            found[kind] = {"counts": counts, "total": found[kind]["total"] + each[kind]["total"]}
        for kind in ("same", "different"):
            found[kind] += each[kind]
    outcomes = {name: count + other["outcomes"][name] for name, count in one["outcomes"].items()}
    return {"outcomes": outcomes, "outputs": outputs}
