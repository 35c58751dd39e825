"""`modelport compare A B`: checks whether two models of a running gateway compute the same, as a client sees them."""

import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from gateway.codecs.npy import NPZ
from gateway.commands import array_bodies, http_client
from gateway.commands.connection import Connection
from gateway.commands.http_client import CommandError, Refused, Request
from gateway.domain.differences import looks_like_classes
from gateway.export import cases as files
from gateway.export import comparison, known
from gateway.export.cases import Arrays, Case
from gateway.export.comparison import Answers
from gateway.export.errors import CannotExport
from gateway.export.report import Run, differences_table, milliseconds
from runtimes import id_ranges
from runtimes.contract import TensorSpec
from runtimes.tensors import from_array

# The sizes to try for dynamic dimensions, until both models accept one.
_DYNAMIC_SIZES = (8, 1, 64, 224)
# How many requests are timed. Their median is a hint, not a benchmark; more would delay the result.
_TIMED_REQUESTS = 20


class Comparison(NamedTuple):
    """first, second: MODEL or MODEL/VERSION. data: a file of inputs; None: generate them.

    shapes      input → shape, for inputs with dynamic sizes
    allow_loss  see comparison.within
    """

    first: str
    second: str
    connection: Connection
    data: Path | None = None
    tolerance: float = comparison.TOLERANCES["float32"]
    shapes: Mapping[str, tuple[int, ...]] = {}
    allow_loss: bool = False


def compare(options: Comparison) -> int:
    """Run the command. Return the exit code: 0 if the models match, 1 if they do not."""
    return http_client.run(options.connection, lambda: _compare(options))


def _compare(options: Comparison) -> int:
    """Raises CommandError, URLError."""
    if not 0 <= options.tolerance < float("inf"):
        raise CommandError(f"--tolerance is {options.tolerance}: it must be a number of at least 0, such as 0.001", 2)
    specs = [_Served.of(options.connection, name) for name in (options.first, options.second)]
    _check_interfaces(*specs)
    first, second = specs
    try:
        answers, refused = _answers(options, first, second)
    except CannotExport as error:
        raise CommandError(str(error), 2) from None
    timed = {name: array[:1] if first.batches else array for name, array in answers[0][0].inputs.items()}
    run = Run(second.name, _differences(first, answers, options), second.seconds(timed))
    inputs = f"{len(answers)} inputs" + (f"; {refused} more were refused" if refused else "")
    console = Console(highlight=False, markup=False)
    console.print(f"{first.name} ({milliseconds(first.seconds(timed))}) and {second.name}, on {inputs}")
    console.print(differences_table([run], options.tolerance))
    match = all(comparison.within(each, options.tolerance, options.allow_loss) for each in run.differences)
    limit = f"{options.tolerance:g} of an output's largest value"
    reference = known.reference(case for each in run.differences for case in each.differing)
    console.print(f"they match within {limit}" if match else f"they differ by more than {limit}{reference}")
    return 0 if match else 1


class _Served(NamedTuple):
    """A served model, as its metadata describes it. name: as on the command line."""

    name: str
    connection: Connection
    path: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, connection: Connection, name: str) -> "_Served":
        model, _, version = name.partition("/")
        metadata = http_client.metadata(connection, model, version)
        path = "/predict" + http_client.model_path(model, version)
        return cls(name, connection, path, _specs(metadata["inputs"]), _specs(metadata["outputs"]))

    @property
    def batches(self) -> bool:
        """Whether the first dimension of all inputs counts rows, according to the metadata."""
        return all(bool(spec.shape) and spec.shape[0] == -1 for spec in self.inputs if spec.shape is not None)

    def answer(self, inputs: Arrays) -> Arrays:
        form = array_bodies.form_for(spec.datatype for spec in self.inputs + self.outputs)
        body = array_bodies.write([from_array(name, array) for name, array in inputs.items()], form)
        try:
            _, response = http_client.send(self.connection, self.path, Request(body, form, form))
        except CommandError as error:
            raise type(error)(f"{self.name}: {error}") from None
        if form != NPZ:
            return array_bodies.read_json(response, {spec.name: spec.datatype for spec in self.outputs})
        with np.load(io.BytesIO(response), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def seconds(self, inputs: Arrays) -> float:
        """Return the median duration of whole requests, after a warm-up."""
        durations = []
        for _ in range(_TIMED_REQUESTS):
            start = time.perf_counter()
            self.answer(inputs)
            durations.append(time.perf_counter() - start)
        return sorted(durations)[_TIMED_REQUESTS // 2]


def _specs(raw: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(each["name"], each["datatype"], tuple(each["shape"])) for each in raw)


def _check_interfaces(first: _Served, second: _Served) -> None:
    """Raises CommandError if the same request is not valid for both."""
    for kind in ("inputs", "outputs"):
        ours, theirs = ({spec.name: spec for spec in getattr(each, kind)} for each in (first, second))
        if ours.keys() != theirs.keys():
            names = f"{first.name} has {', '.join(sorted(ours))}, {second.name} has {', '.join(sorted(theirs))}"
            raise CommandError(f"the models have different {kind}, and cannot be compared: {names}")
        for name, spec in ours.items():
            if "" not in (spec.datatype, theirs[name].datatype) and spec.datatype != theirs[name].datatype:
                datatypes = f"{spec.datatype} in {first.name}, {theirs[name].datatype} in {second.name}"
                raise CommandError(f"'{name}' is {datatypes}: the models cannot be compared")


def _answers(options: Comparison, first: _Served, second: _Served) -> tuple[list[tuple[Case, Arrays, Arrays]], int]:
    """Return both models' answers to the same inputs, and how many generated inputs either model refused.

    Raises CommandError, CannotExport.
    """
    if any(each.datatype in ("", "BYTES") for each in first.inputs):
        raise CommandError(f"{first.name} has inputs of strings or of unknown datatype: arrays cannot be compared", 2)
    if options.data is not None:
        given = files.read_cases(options.data, first.inputs)
        return [(case, first.answer(case.inputs), second.answer(case.inputs)) for case in given], 0
    refused = None
    for free in _DYNAMIC_SIZES:
        shapes = {
            each.name: options.shapes.get(each.name) or _closed(each.shape or (), free, first.batches)
            for each in first.inputs
        }
        chosen, answered = files.generated(first.inputs, shapes, first.batches), []
        ids = _Ids(first)
        for case in chosen:
            try:
                taken, ours = ids.answered(case)
                answered.append((taken, ours, second.answer(taken.inputs)))
            except Refused as error:
                refused = error
        if answered:
            return answered, len(chosen) - len(answered)
    raise CommandError(f"{refused}; provide inputs that it accepts with --data NPZ, or sizes with --shape NAME=SIZES")


class _Ids:
    """Brings generated integers into the ranges that the first model accepts: see id_ranges.py."""

    def __init__(self, model: _Served) -> None:
        self._model = model
        self._limits: Mapping[str, id_ranges.Limit] = {}

    def answered(self, case: Case) -> tuple[Case, Arrays]:
        """Return the case as the model accepted it, and the answer. Raises Refused."""
        try:
            return case, self._model.answer(case.inputs)
        except Refused:
            self._limits = self._limits or id_ranges.find_limits(self._takes, case.inputs) or {}
            if not self._limits:
                raise
        taken = case._replace(inputs=id_ranges.wrap_ids(case.inputs, self._limits))
        return taken, self._model.answer(taken.inputs)

    def _takes(self, inputs: Arrays) -> bool:
        try:
            self._model.answer(inputs)
        except Refused:
            return False
        return True


def _differences(
    first: _Served, answers: Sequence[tuple[Case, Arrays, Arrays]], options: Comparison
) -> list[comparison.OutputDifference]:
    names = [spec.name for spec in first.outputs] or list(answers[0][1])
    scores = frozenset(s.name for s in first.outputs if looks_like_classes(s.shape, s.datatype))
    compared = [Answers(case.name, ours, theirs, exact=case.exact) for case, ours, theirs in answers]
    found = comparison.compare(names, compared, options.tolerance, scores)
    differing = {case for each in found for case in each.differing}
    if not differing or 2 * len(differing) > len(answers):
        return found
    again = [
        each._replace(moved=[first.answer(other.inputs) for other in files.moves(case)])
        if each.case in differing
        else each
        for each, (case, _, _) in zip(compared, answers, strict=True)
    ]
    return comparison.compare(names, again, options.tolerance, scores)


def _closed(shape: Sequence[int], free: int, batches: bool) -> tuple[int, ...]:
    return tuple(size if size >= 0 else (1 if batches and not axis else free) for axis, size in enumerate(shape))
