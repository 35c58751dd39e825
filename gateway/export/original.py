"""The original's answers to the inputs of a proof, and how much of them is noise."""

from collections.abc import Sequence

from gateway.export import cases as files
from gateway.export import proof
from gateway.export.cases import Arrays, Case
from gateway.export.errors import CannotExport
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.proof import Answers
from gateway.export.source import Source, cases_job
from runtimes.id_ranges import wrap_ids


class Original:
    """cases: what it answered, once answer() has been awaited. seconds: of a batch of one. refused: how many more."""

    def __init__(self, source: Source, jobs: Jobs) -> None:
        self._source = source
        self._jobs = jobs
        self._moved: dict[str, list[tuple[Case, Arrays]]] = {}
        self.answered: list[tuple[Case, Arrays]] = []
        self.seconds: float | None = None
        self.refused = 0

    async def answer(self, chosen: Sequence[Case], tolerance: float) -> None:
        """Raises CannotExport where it answers nothing, or something else the second time."""
        # The first again at the end: what answers differently then cannot be compared with anything.
        repeated = [chosen[0]._replace(name="again"), chosen[-1]._replace(name="again-last")]
        *given, first, last = await self._run([*chosen, *repeated], chosen[0])
        self.answered = [(case, outputs) for case, outputs, _ in given if outputs is not None]
        self.refused = len(chosen) - len(self.answered)
        if not self.answered:
            raise CannotExport(
                f"model '{self._source.config.name}' refuses all of the inputs ({given[0][2]}): "
                "give some that it takes with --check DATA.npz"
            )
        for before, after in ((given[0][1], first[1]), (given[-1][1], last[1])):
            if before is not None and after is not None:
                self._check_steady(before, after, tolerance)

    async def moved(self, names: Sequence[str]) -> dict[str, list[tuple[Case, Arrays]]]:
        """Case → the same with each float of its inputs moved by one unit in the last place, and its answers.

        Raises CannotExport.
        """
        wanted = [case for case, _ in self.answered if case.name in names and case.name not in self._moved]
        pairs = [(case, other) for case in wanted for other in files.moves(case)]
        self._moved.update({case.name: [] for case in wanted})
        for (case, _), (other, outputs, _) in zip(pairs, await self._run([other for _, other in pairs]), strict=True):
            self._moved[case.name].append((other, outputs or {}))
        return {name: self._moved[name] for name in names}

    async def _run(self, chosen: Sequence[Case], timed: Case | None = None) -> list[tuple[Case, Arrays | None, str]]:
        """Each case with its ids as the model takes them, its outputs, and why there are none."""
        if not chosen:
            return []
        source, jobs = self._source, self._jobs
        folder, results = jobs.folder("inputs"), jobs.folder("original results")
        given = [files.write(case, folder) for case in chosen]
        row = files.write(Case("timed", files.one_row(timed.inputs, source.batches)), folder) if timed else None
        fold = any(case.generated for case in chosen)
        job = cases_job(source.load, source.key, given, results, timed=row, fold=fold)
        try:
            told = await jobs.run(source.environment, job)
        except RouteFailed as error:
            raise CannotExport(f"model '{source.config.name}' does not run: {error}", error.detail) from None
        self.seconds = told["seconds"] if timed else self.seconds
        found: list[tuple[Case, Arrays | None, str]] = []
        for case, file, answer in zip(chosen, given, told["answers"], strict=True):
            if "failed" in answer:
                found.append((case, None, answer["failed"]))
                continue
            taken = case._replace(inputs=wrap_ids(case.inputs, answer.get("limits", {})))
            found.append((taken, files.read(results / file.name), ""))
        return found

    def _check_steady(self, first: Arrays, again: Arrays, tolerance: float) -> None:
        for each in proof.compare(list(first), [Answers("again", first, again)], tolerance):
            if each.problem or each.relative > tolerance:
                raise CannotExport(
                    f"model '{self._source.config.name}' answers the same input differently the second time (output "
                    f"'{each.name}', by {each.absolute:.2g}): it keeps state or draws random numbers, "
                    "and no export can be compared with that"
                )
