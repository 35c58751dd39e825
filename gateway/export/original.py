"""The original's answers to the inputs of a comparison, and how much of them is noise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gateway.export import cases as case_files
from gateway.export import comparison, large
from gateway.export.cases import Arrays, Case
from gateway.export.comparison import Answers
from gateway.export.errors import CannotExport
from gateway.export.jobs import CasesJob, Jobs, RouteFailed
from gateway.export.source import Source, with_observed_outputs
from runtimes.id_ranges import MAX_IDS, Limit, wrap_ids
from runtimes.tensors import widened


class Outcome(NamedTuple):
    """One run. case: with its ids as the model accepts them. outputs: None if the model refused the inputs, and why."""

    case: Case
    outputs: Arrays | None
    refusal: str = ""


class LargeAnswer(NamedTuple):
    """The answer to a case with large integers. exact: the outputs that change if these are rounded to FP32."""

    case: Case
    outputs: Arrays
    exact: frozenset[str]


class Original:
    """The model to export, run in its own framework. answer() and answer_large() set the attributes below.

    source    with the outputs as its answers show them
    answered  the inputs that it accepts, with its answers
    refused   how many other inputs it refused
    seconds   the time of one inference with a batch of one
    large     the inputs with large integers that it accepts, with its answers
    note      why there are none although it accepts integers of any size, in a sentence; "" otherwise
    """

    def __init__(self, source: Source, jobs: Jobs) -> None:
        self.source = source
        self._jobs = jobs
        self._moved: dict[str, list[tuple[Case, Arrays]]] = {}
        self.answered: list[tuple[Case, Arrays]] = []
        self.seconds: float | None = None
        self.refused = 0
        self.large: list[LargeAnswer] = []
        self.note = ""
        self._limits: dict[str, Limit] = {}
        self._precise: dict[str, Arrays] | None = None
        self._precise_large: dict[str, Arrays] | None = None

    async def answer(self, cases: Sequence[Case], tolerance: float) -> None:
        """Run the cases. Raises CannotExport if all are refused, or if an answer differs the second time."""
        # The first and the last case run twice: answers that change cannot be compared with anything.
        repeated = [cases[0]._replace(name="again"), cases[-1]._replace(name="again-last")]
        *outcomes, first, last = await self._run([*cases, *repeated], cases[0])
        self.answered = [(each.case, each.outputs) for each in outcomes if each.outputs is not None]
        self.refused = len(cases) - len(self.answered)
        if not self.answered:
            raise CannotExport(
                f"model '{self.source.config.name}' refuses all inputs ({outcomes[0].refusal}): "
                "provide some that it accepts with --check DATA.npz"
            )
        for before, after in ((outcomes[0].outputs, first.outputs), (outcomes[-1].outputs, last.outputs)):
            if before is not None and after is not None:
                self._check_deterministic(before, after, tolerance)
        self.source = with_observed_outputs(self.source, self.answered)

    async def answer_large(self) -> None:
        """Run inputs with large integers, unless the graph or the answers so far show that integers are limited."""
        source = self.source
        if source.pixels is not None:
            return
        limited = [*source.ranges, *(name for name, size in self._limits.items() if np.min(size) < MAX_IDS)]
        cases = large.generated(source.signature.inputs, source.shapes, source.batches, limited)
        try:
            outcomes = await self._run([*cases, *map(large.rounded, cases)], large=True)
        except CannotExport:
            self.note = (
                f"integers beyond {MAX_IDS - 1} are not compared: with these, the original crashes, needs minutes, or "
                "needs gigabytes"
            )
            return
        for outcome, other in zip(outcomes[: len(cases)], outcomes[len(cases) :], strict=True):
            if outcome.outputs is None or other.outputs is None:
                continue
            pairs = {name: (array, other.outputs[name]) for name, array in outcome.outputs.items()}
            exact = frozenset(name for name, (a, b) in pairs.items() if not _same(a, b))
            self.large.append(LargeAnswer(outcome.case, outcome.outputs, exact))

    async def moved_large(self, case: Case) -> list[Arrays]:
        """Return the answers to the case with its integers moved by FP32's unit. Raises CannotExport.

        These are computed in FP32 if large_in_fp32() was.
        """
        if case.name not in self._moved:
            outcomes = await self._run(large.moves(case), large=True, in_fp32=bool(self._precise_large))
            self._moved[case.name] = [(each.case, each.outputs or {}) for each in outcomes]
        return [outputs for _, outputs in self._moved[case.name]]

    async def in_fp32(self) -> dict[str, Arrays]:
        """Return case → what the model would answer if it computed in FP32; {} if the framework cannot do that."""
        if self._precise is None:
            self._precise = await self._answers_in_fp32([case for case, _ in self.answered])
        return self._precise

    async def large_in_fp32(self) -> dict[str, Arrays]:
        """Return the same for the cases with large integers."""
        if self._precise_large is None:
            self._precise_large = await self._answers_in_fp32([each.case for each in self.large], large=True)
        return self._precise_large

    async def _answers_in_fp32(self, cases: Sequence[Case], large: bool = False) -> dict[str, Arrays]:
        try:
            outcomes = await self._run(cases, large=large, in_fp32=True)
        except CannotExport:
            return {}
        return {each.case.name: each.outputs for each in outcomes if each.outputs is not None}

    async def moved(self, names: Sequence[str]) -> dict[str, list[tuple[Case, Arrays]]]:
        """Return case → the same inputs with each float moved by one unit in the last place, and the answers.

        These are computed in FP32 if in_fp32() was. Raises CannotExport.
        """
        missing = [case for case, _ in self.answered if case.name in names and case.name not in self._moved]
        pairs = [(case, other) for case in missing for other in case_files.moves(case)]
        self._moved.update({case.name: [] for case in missing})
        outcomes = await self._run([other for _, other in pairs], in_fp32=bool(self._precise))
        for (case, _), (other, outputs, _) in zip(pairs, outcomes, strict=True):
            self._moved[case.name].append((other, outputs or {}))
        return {name: self._moved[name] for name in names}

    async def _run(
        self, cases: Sequence[Case], timed: Case | None = None, large: bool = False, in_fp32: bool = False
    ) -> list[Outcome]:
        if not cases:
            return []
        source, jobs = self.source, self._jobs
        folder, results = jobs.folder("inputs"), jobs.folder("original results")
        files = [case_files.write(case, folder) for case in cases]
        row = (
            case_files.write(Case("timed", case_files.one_row(timed.inputs, source.batches)), folder) if timed else None
        )
        fold = any(case.generated for case in cases)
        job = CasesJob(source.load, source.key, files, results, timed=row, fold=fold, large=large, in_fp32=in_fp32)
        try:
            answer = await jobs.run(source.environment, job.to_json())
        except RouteFailed as error:
            raise CannotExport(f"model '{source.config.name}' does not run: {error}", error.detail) from None
        self.seconds = answer["seconds"] if timed else self.seconds
        outcomes: list[Outcome] = []
        for case, file, result in zip(cases, files, answer["answers"], strict=True):
            if "failed" in result:
                outcomes.append(Outcome(case, None, result["failed"]))
                continue
            limits = result.get("limits", {})
            self._limits.update(limits)
            accepted = case._replace(inputs=wrap_ids(case.inputs, limits))
            outcomes.append(Outcome(accepted, case_files.read(results / file.name)))
        return outcomes

    def _check_deterministic(self, first: Arrays, again: Arrays, tolerance: float) -> None:
        for each in comparison.compare(list(first), [Answers("again", first, again)], tolerance):
            if each.differing or each.relative > tolerance:
                raise CannotExport(
                    f"model '{self.source.config.name}' answers the same input differently the second time (output "
                    f"'{each.name}', by {each.absolute:.2g}): it keeps state or draws random numbers, "
                    "and no export can be compared with that"
                )


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    a, b = widened(a), widened(b)
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
