"""Compares a pipeline of exported models with the originals, from its inputs to its outputs."""

from collections.abc import Container, Sequence

from gateway.export import cases as case_files
from gateway.export import comparison
from gateway.export.cases import Arrays
from gateway.export.comparison import Answers, OutputDifference
from gateway.export.errors import CannotExport
from gateway.export.graph import Node, Outcome, run_graph
from gateway.export.jobs import Jobs
from gateway.export.report import Run
from gateway.export.verification import classifiers
from runtimes.contract import Signature


class WholeComparison:
    """originals: of each step, in order. labels: the outputs that have some. jobs: to run the originals again."""

    def __init__(
        self, originals: Sequence[Node], signature: Signature, labels: Container[str], tolerance: float, jobs: Jobs
    ) -> None:
        self._originals = originals
        self._signature = signature
        self._names = [spec.name for spec in signature.outputs]
        self._scores = classifiers(signature.outputs, labels)
        self._tolerance = tolerance
        self._jobs = jobs

    async def run(
        self, runner: str, answered: Sequence[Outcome], outcomes: Sequence[Outcome]
    ) -> tuple[Run, list[Outcome], list[str]]:
        """Return the comparison, those of `answered` that it covers, and notes. Raises CannotExport.

        answered  runs of the originals; outcomes: of the exports, for the same cases
        """
        compared: list[Outcome] = []
        answers: list[Answers] = []
        notes: list[str] = []
        for ours, theirs in zip(answered, outcomes, strict=True):
            if not theirs.refusal:
                compared.append(ours)
                answers.append(self._answers(ours, theirs))
            elif not theirs.excluded and not ours.case.has_unusual_ids:
                raise CannotExport(f"once exported, it fails on input {ours.case.name}: {theirs.refusal}")
            elif not theirs.excluded:
                notes.append(f"the export refuses input {ours.case.name}, which the originals accept: {theirs.refusal}")
        if not answers:
            raise CannotExport(f"once exported, it accepts none of the inputs: {outcomes[0].refusal}")
        differences = await self._differences(compared, answers)
        return Run(runner, differences, None, cases=len(answers)), compared, notes

    def outputs(self, run: Outcome) -> Arrays:
        return {name: run.tensors[name] for name in self._names}

    def _answers(self, ours: Outcome, theirs: Outcome) -> Answers:
        """Pair both answers to a case, in the originals' datatypes."""
        expected = self.outputs(ours)
        other = {name: array.astype(expected[name].dtype) for name, array in self.outputs(theirs).items()}
        return Answers(ours.case.name, expected, other, exact=ours.case.exact)

    async def _differences(self, compared: Sequence[Outcome], answers: Sequence[Answers]) -> list[OutputDifference]:
        """Return the difference of each output. If few inputs differ, look for noise by moving them."""
        found = comparison.compare(self._names, answers, self._tolerance, self._scores)
        differing = {case for each in found for case in each.differing}
        if not differing or 2 * len(differing) > len(answers):
            return found
        moves = [
            (run.case.name, case)
            for run in compared
            if run.case.name in differing
            for case in case_files.moves(run.case)
        ]
        outcomes = await run_graph(self._originals, [case for _, case in moves], self._jobs)
        moved: dict[str, list[Arrays]] = {}
        for (name, _), outcome in zip(moves, outcomes, strict=True):
            moved.setdefault(name, []).append({} if outcome.refusal else self.outputs(outcome))
        again = [each._replace(moved=moved.get(each.case, ())) for each in answers]
        return comparison.compare(self._names, again, self._tolerance, self._scores)
