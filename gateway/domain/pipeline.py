"""The steps of a pipeline: which models it runs, and how their tensors are connected."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

# Models that may call each other, one below the other. No sensible pipeline is that deep; each level holds a request.
MAX_DEPTH = 16


class Condition(NamedTuple):
    """Runs a step only if the pipeline's tensor, which is BOOL and has one element, has this value."""

    tensor: str
    value: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "tensor" or "not tensor"."""
        negated, tensor = text.startswith("not "), text.removeprefix("not ").strip()
        return cls(tensor, not negated)

    def __str__(self) -> str:
        return self.tensor if self.value else f"not {self.tensor}"


class Step(NamedTuple):
    """One model in a pipeline.

    version  a number or a label; "" for the model's newest ready version
    inputs   input of the step's model → tensor of the pipeline: one of its inputs, or what another step makes
    outputs  output of the step's model → tensor of the pipeline. Outputs that are not here are not used
    when     None if the step always runs
    """

    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    when: Condition | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The pipeline's tensors that must exist before the step can run."""
        return frozenset(self.inputs.values()) | ({self.when.tensor} if self.when else set())

    def __str__(self) -> str:
        return f"{self.model} version {self.version}" if self.version else self.model


def steps_after(steps: Sequence[Step], number: int) -> frozenset[int]:
    """Return the numbers of the steps that need what this one makes, or what such a step makes."""
    made, found = set(steps[number].outputs.values()), set[int]()
    while more := {each for each, step in enumerate(steps) if each not in found and step.needs & made}:
        found |= more
        made = {tensor for each in more for tensor in steps[each].outputs.values()}
    return frozenset(found)


def steps_from_json(raw: Sequence[Any]) -> tuple[Step, ...]:
    return tuple(
        Step(model, version, inputs, outputs, Condition(*when) if when else None)
        for model, version, inputs, outputs, when in raw
    )
