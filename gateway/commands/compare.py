"""`modelport compare A B`: whether two served models compute the same, asked of a running gateway as clients ask it."""

import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from gateway.codecs.npy import NPZ, write_npz
from gateway.commands import http_client
from gateway.commands.http_client import CommandError, Refused, Request
from gateway.export import cases as files
from gateway.export import comparison, known
from gateway.export.cases import Arrays, Case
from gateway.export.comparison import Answers
from gateway.export.errors import CannotExport
from gateway.export.report import Run, differences_table, milliseconds
from runtimes import id_ranges
from runtimes.contract import TensorSpec
from runtimes.tensors import from_array

# What a dimension of any size gets, until both models take it.
_FREE_SIZES = (8, 1, 64, 224)
_TIMED = 20


class Comparison(NamedTuple):
    """first, second: MODEL or MODEL/VERSION. data: inputs to compare on; None: generated. shapes: of open inputs.

    allow_loss: see comparison.within
    """

    first: str
    second: str
    url: str
    data: Path | None = None
    tolerance: float = comparison.TOLERANCES["float32"]
    shapes: Mapping[str, tuple[int, ...]] = {}
    allow_loss: bool = False


def compare(wanted: Comparison) -> int:
    """The exit code: 0 when they agree, 1 when they do not."""
    return http_client.run(wanted.url, lambda: _compare(wanted))


def _compare(wanted: Comparison) -> int:
    """Raises CommandError, and what asking raises."""
    if not 0 <= wanted.tolerance < float("inf"):
        raise CommandError(
            f"a tolerance of {wanted.tolerance} says nothing: it must be a number from 0 on, such as 0.001", 2
        )
    specs = [_Spec.of(wanted.url, name) for name in (wanted.first, wanted.second)]
    _check_interfaces(*specs)
    first, second = specs
    try:
        answers, left_out = _answers(wanted, first, second)
    except CannotExport as error:
        raise CommandError(str(error), 2) from None
    timed = {name: array[:1] if first.batches else array for name, array in answers[0][0].inputs.items()}
    run = Run(second.told, _differences(first, answers, wanted), second.seconds(timed))
    told = f"{len(answers)} inputs" + (f"; {left_out} more were refused" if left_out else "")
    console = Console(highlight=False, markup=False)
    console.print(f"{first.told} ({milliseconds(first.seconds(timed))}) beside {second.told}, on {told}")
    console.print(differences_table([run], wanted.tolerance))
    agree = all(comparison.within(each, wanted.tolerance, wanted.allow_loss) for each in run.differences)
    limit = f"{wanted.tolerance:g} of an output's largest value"
    met = known.reference(case for each in run.differences for case in each.differing)
    console.print(f"they agree within {limit}" if agree else f"they differ by more than {limit}{met}")
    return 0 if agree else 1


class _Spec(NamedTuple):
    """A served model, as its metadata tells it."""

    told: str
    url: str
    path: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, url: str, told: str) -> "_Spec":
        model, _, version = told.partition("/")
        about = http_client.metadata(url, model, version)
        return cls(
            told, url, "/predict" + http_client.place(model, version), _specs(about["inputs"]), _specs(about["outputs"])
        )

    @property
    def batches(self) -> bool:
        """As far as its metadata tells."""
        return all(bool(spec.shape) and spec.shape[0] == -1 for spec in self.inputs if spec.shape is not None)

    def answer(self, inputs: Arrays) -> Arrays:
        body = write_npz([from_array(name, array) for name, array in inputs.items()])
        try:
            _, answered = http_client.ask(self.url, self.path, Request(body, NPZ, NPZ))
        except CommandError as error:
            raise type(error)(f"{self.told}: {error}") from None
        with np.load(io.BytesIO(answered), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def seconds(self, inputs: Arrays) -> float:
        """The median of whole requests, warm."""
        took = []
        for _ in range(_TIMED):
            began = time.perf_counter()
            self.answer(inputs)
            took.append(time.perf_counter() - began)
        return sorted(took)[_TIMED // 2]


def _specs(raw: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(each["name"], each["datatype"], tuple(each["shape"])) for each in raw)


def _check_interfaces(first: _Spec, second: _Spec) -> None:
    """Raises CommandError where the same request could not be for both."""
    for kind in ("inputs", "outputs"):
        ours, theirs = ({spec.name: spec for spec in getattr(each, kind)} for each in (first, second))
        if ours.keys() != theirs.keys():
            told = f"{first.told} has {', '.join(sorted(ours))}, {second.told} has {', '.join(sorted(theirs))}"
            raise CommandError(f"the two have other {kind}, and cannot be compared: {told}")
        for name, spec in ours.items():
            if "" not in (spec.datatype, theirs[name].datatype) and spec.datatype != theirs[name].datatype:
                told = f"{spec.datatype} in {first.told}, {theirs[name].datatype} in {second.told}"
                raise CommandError(f"'{name}' is {told}: the two cannot be compared")


def _answers(wanted: Comparison, first: _Spec, second: _Spec) -> tuple[list[tuple[Case, Arrays, Arrays]], int]:
    """What both answer to the same inputs, and how many generated ones either refused.

    Raises CommandError, CannotExport.
    """
    if any(each.datatype in ("", "BYTES") for each in first.inputs):
        raise CommandError(f"{first.told} has inputs of strings or of unknown datatype: arrays cannot be compared", 2)
    if wanted.data is not None:
        given = files.read_cases(wanted.data, first.inputs)
        return [(case, first.answer(case.inputs), second.answer(case.inputs)) for case in given], 0
    refused = None
    for free in _FREE_SIZES:
        shapes = {
            each.name: wanted.shapes.get(each.name) or _closed(each.shape or (), free, first.batches)
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
    raise CommandError(f"{refused}; give inputs that it takes with --data NPZ, or sizes with --shape NAME=SIZES")


class _Ids:
    """Whole numbers as the first model takes them: see id_ranges.py."""

    def __init__(self, model: _Spec) -> None:
        self._model = model
        self._limits: Mapping[str, int] = {}

    def answered(self, case: Case) -> tuple[Case, Arrays]:
        """The case as it was taken, and the answer. Raises Refused."""
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
    first: _Spec, answers: Sequence[tuple[Case, Arrays, Arrays]], wanted: Comparison
) -> list[comparison.OutputDifference]:
    names = [spec.name for spec in first.outputs] or list(answers[0][1])
    scores = frozenset(s.name for s in first.outputs if comparison.looks_like_classes(s.shape, s.datatype))
    compared = [Answers(case.name, ours, theirs, exact=case.exact) for case, ours, theirs in answers]
    found = comparison.compare(names, compared, wanted.tolerance, scores)
    differing = {case for each in found for case in each.differing}
    if not differing or 2 * len(differing) > len(answers):
        return found
    again = [
        each._replace(moved=[first.answer(other.inputs) for other in files.moves(case)])
        if each.case in differing
        else each
        for each, (case, _, _) in zip(compared, answers, strict=True)
    ]
    return comparison.compare(names, again, wanted.tolerance, scores)


def _closed(shape: Sequence[int], free: int, batches: bool) -> tuple[int, ...]:
    return tuple(size if size >= 0 else (1 if batches and not axis else free) for axis, size in enumerate(shape))
