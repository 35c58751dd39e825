"""What all requests to a pipeline have in common, as long as the table of models does not change."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from gateway.domain.pipeline import steps_after
from gateway.domain.types import ModelStatus
from gateway.errors import NotFound, Unavailable
from runtimes.contract import TensorSpec
from runtimes.tensor_bytes import Tensor


class KnowsModels(Protocol):
    """The engine, as plans see it."""

    def model(self, name: str, version: str = "") -> ModelStatus: ...


class Plan:
    """The graph of a pipeline, by the numbers of its steps and the names of its tensors.

    consumers  of each tensor: the steps that need it
    needs      of each step: how many tensors it waits for
    makers     of each tensor: how many steps may make it
    uses       of each tensor: how often a step, or the answer, uses it
    requested  of each step: the outputs to ask its model for
    needed     of each step: the inputs that its model cannot do without
    batch_dim  of each step: the dimension of its model that counts rows; None if none does
    no_rows    of each step: what its model answers to inputs without rows; None if that is not known
    decoupled  the steps whose models give any number of answers, each behind the one before it
    parts      the steps that run once for a request, then those that run for each answer of the first decoupled step,
               of the second, and so on; each decoupled step is among those of the part before its own
    is_in_a_row whether each is; versions that weights choose may differ from those for which that was checked
    one_by_one whether those of the last part may not run for several answers side by side, because one has a state
    graph      what compiled code has made of this; None before it has
    """

    def __init__(self, status: ModelStatus, models: KnowsModels) -> None:
        self.graph: object = None
        self.steps = status.steps
        signature = status.signature()
        self.inputs = [spec.name for spec in signature.inputs] if signature else []
        self.outputs = [spec.name for spec in signature.outputs] if signature else []
        consumers: dict[str, list[int]] = defaultdict(list)
        for number, step in enumerate(self.steps):
            for name in step.needs:
                consumers[name].append(number)
        self.consumers: Mapping[str, Sequence[int]] = dict(consumers)
        self.needs = [len(step.needs) for step in self.steps]
        self.makers = Counter(name for step in self.steps for name in step.outputs.values())
        self.uses = Counter(name for step in self.steps for name in step.needs)
        self.uses.update(self.outputs)
        self.requested: list[Sequence[str]] = []
        self.needed: list[frozenset[str]] = []
        self.batch_dim: list[int | None] = []
        self.no_rows: list[Sequence[Tensor] | None] = []
        found = [_model(step.model, step.version, models) for step in self.steps]
        for step, model in zip(self.steps, found, strict=True):
            # A pipeline refuses to answer if an output that was asked for does not exist; this one can do without.
            self.requested.append(() if model.steps else tuple(step.outputs))
            used = model.signature()
            self.needed.append(frozenset(used.needed_for(list(step.outputs)) if used else step.inputs))
            self.batch_dim.append(model.batch_dim if model.has_rows else None)
            no_rows = _without_rows(used.outputs, step.outputs, model.batch_dim) if used else None
            self.no_rows.append(None if model.decoupled else no_rows)
        behind = {number: steps_after(self.steps, number) for number, model in enumerate(found) if model.decoupled}
        depths = [sum(number in each for each in behind.values()) for number in range(len(self.steps))]
        self.decoupled = sorted(behind, key=depths.__getitem__)
        self.parts = [
            frozenset(number for number, each in enumerate(depths) if each == part) for part in range(len(behind) + 1)
        ]
        self.is_in_a_row = all(depths[number] == part for part, number in enumerate(self.decoupled))
        self.one_by_one = bool(behind) and any(found[number].stateful for number in self.parts[-1])

    def answer_without_rows(self, number: int, shapes: Sequence[Sequence[int]]) -> Sequence[Tensor] | None:
        """Return what a step makes of inputs with these shapes if they have no rows; None if its model must run.

        A step may find nothing, a detector for example. No model needs to run on nothing, and few can.
        """
        dim = self.batch_dim[number]
        has_none = dim is not None and bool(shapes) and all(tuple(shape[dim : dim + 1]) == (0,) for shape in shapes)
        return self.no_rows[number] if has_none else None


def _model(name: str, version: str, models: KnowsModels) -> ModelStatus:
    try:
        return models.model(name, version)
    except (NotFound, Unavailable):
        return ModelStatus(name, version, "UNAVAILABLE")  # the step's request will say so


def _without_rows(specs: Iterable[TensorSpec], names: Collection[str], batch_dim: int) -> Sequence[Tensor] | None:
    """Return these outputs with 0 rows; None if their datatypes, or the sizes of a row, are not declared."""
    tensors = []
    for spec in specs:
        if spec.name not in names:
            continue
        shape = list(spec.shape or ())
        if not spec.datatype or len(shape) <= batch_dim:
            return None
        shape[batch_dim] = 0
        if -1 in shape:
            return None
        tensors.append(Tensor(spec.name, spec.datatype, tuple(shape), b""))
    return tensors
