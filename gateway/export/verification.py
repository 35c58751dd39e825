"""Verifies an export: runs it in the runtimes that its users will have, and compares it with the original."""

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gateway.domain.differences import looks_like_classes
from gateway.environments.environment import Environment
from gateway.export import cases as case_files
from gateway.export import comparison, interface, large, rounding, verdict
from gateway.export.cases import Arrays, Case
from gateway.export.comparison import Answers, OutputDifference
from gateway.export.jobs import CasesJob, RouteFailed, bare_load
from gateway.export.original import LargeAnswer, Original
from gateway.export.report import Run
from gateway.export.runners import RUNNERS, Runner
from gateway.export.source import Source
from gateway.export.verdict import Limits, advice, mismatch
from gateway.export.workspace import Workspace
from gateway.process.cores import available_cores
from runtimes import wire
from runtimes.contract import Signature, TensorSpec, numpy_dtype
from runtimes.control import Load

# Formats of frameworks that can compute in FP32 what a model computes in FP16 or BF16.
_IN_FP32 = ("torchscript", "pt2")


class Differs(RouteFailed):
    """The export runs, but its results differ from the original's."""


class Verification(NamedTuple):
    """An export that matches the original.

    signature    as the export declares it
    environment  of the first runner
    notes        sentences for the report
    fixed        as in report.Report
    """

    signature: Signature
    runs: Sequence[Run]
    notes: Sequence[str]
    environment: Environment
    fixed: Sequence[str] = ()


async def verify(
    model_format: str, artifact: Path, original: Original, limits: Limits, workspace: Workspace
) -> Verification:
    """Run the export on everything that the original answered. Raises RouteFailed if it does not match."""
    runs: list[Run] = []
    found: Verification | None = None
    for runner in RUNNERS[model_format]:
        try:
            loaded = await load_export(runner, artifact, original.source, workspace)
            mismatches, notes = interface.differences(original.source.signature, loaded.signature)
            if mismatches:
                raise RouteFailed(f"its interface differs: {mismatches[0]}")
            fixed = fixed_sizes(original.source, loaded.signature)
            run, more = await _Comparison(loaded, original, limits, workspace).run()
        except RouteFailed as error:
            if runner.required:
                raise
            runs.append(Run(runner.name, (), None, f"it cannot run this model: {error}"))
            continue
        if problem := mismatch(run, limits):
            if runner.required:
                raise Differs(problem, advice=advice(run, limits))
            runs.append(Run(runner.name, (), None, f"it is left out: {problem}"))
            continue
        runs.append(run)
        found = found or Verification(loaded.signature, runs, [*notes, *more], loaded.environment, fixed)
    assert found is not None, "the first runner is required"
    return found


class Loaded(NamedTuple):
    """An export in one of its runners. signature: as the export declares it."""

    runner: Runner
    environment: Environment
    load: Load
    signature: Signature


async def load_export(runner: Runner, artifact: Path, source: Source, workspace: Workspace) -> Loaded:
    """Load the export once in a runner, and describe it. Raises RouteFailed."""
    environment = await workspace.environments.get(runner.environment)
    parameters = {**runner.parameters, **({"backend": runner.backend} if runner.backend else {})}
    load = bare_load(environment.runtime, artifact, available_cores(), **parameters)
    described = await workspace.jobs.run(environment, CasesJob(load, shapes=source.shapes).to_json())
    signature = wire.signature_from_json(described["signatures"][described["signature"]])
    return Loaded(runner, environment, load, signature)


def fixed_sizes(source: Source, exported: Signature) -> list[str]:
    """Return a text for each input whose dynamic sizes (other than the batch) the export fixes.

    Raises RouteFailed if it fixes sizes that the user did not give.
    """
    shapes, found = {spec.name: spec.shape for spec in exported.inputs}, []
    for spec in source.signature.inputs:
        shape = shapes.get(spec.name) or ()
        pairs = list(zip(spec.shape or (), shape, strict=False))
        axes = [axis for axis, (was, now) in enumerate(pairs) if was < 0 <= now and (axis or not source.batches)]
        if not axes:
            continue
        sizes = ",".join(map(str, shape))
        if spec.name not in source.origins:
            template = ",".join("SIZE" if axis in axes else str(now) for axis, now in enumerate(shape))
            raise RouteFailed(
                f"it accepts '{spec.name}' only in the size {sizes}, which modelport chose for its tests",
                advice=f"give the size you need with --shape {spec.name}={template}",
            )
        found.append(f"{spec.name} fixed at {'x'.join(map(str, shape))} ({source.origins[spec.name]})")
    return found


class _Comparison:
    """One export in one runner, compared with the original."""

    def __init__(self, loaded: Loaded, original: Original, limits: Limits, workspace: Workspace) -> None:
        self._loaded = loaded
        self._original = original
        self._source = original.source
        self._limits = limits
        self._jobs = workspace.jobs
        self._folder = self._jobs.folder(loaded.runner.name)
        self._excluded = ""

    async def run(self) -> tuple[Run, list[str]]:
        """Return the run and its notes. Raises RouteFailed if the export fails on ordinary inputs."""
        name = self._loaded.runner.name
        kept = self._accepted_cases(self._original.answered)
        if not kept:
            raise RouteFailed(f"{name}: it accepts none of the inputs: {self._excluded}")
        with_large = {each.case.name: each for each in self._original.large}
        kept += self._accepted_cases([(each.case, each.outputs) for each in with_large.values()])
        row = Case("timed", case_files.one_row(kept[0][0].inputs, self._source.batches))
        answer, results = await self._infer([case for case, _ in kept], timed=row)
        answers: list[Answers] = []
        beyond: list[tuple[LargeAnswer, Arrays]] = []
        refused: list[tuple[str, str]] = []
        for (case, expected), result, outputs in zip(kept, answer["answers"], results, strict=True):
            if outputs is not None and case.magnitude:
                beyond.append((with_large[case.name], self._as_original(expected, outputs)))
            elif outputs is not None:
                answers.append(Answers(case.name, expected, self._as_original(expected, outputs), exact=case.exact))
            elif case.has_unusual_ids:
                refused.append((case.name, result["failed"]))
            else:
                raise RouteFailed(f"{name} fails on input {case.name}: {result['failed']}")
        if not answers:
            raise RouteFailed(f"{name} fails on every input: {refused[0][1]}")
        differences = await self._compare(answers)
        if all(comparison.within(each, self._limits.tolerance) for each in differences):
            differs = await self._compare_large(beyond)
            differences = [replace(each, large=differs.get(each.name, 0)) for each in differences]
        run = Run(name, differences, answer["seconds"], cases=len(answers) + len(beyond))
        return run, [
            *verdict.notes(name, differences, refused),
            *verdict.rounding_notes(self._source.signature.outputs, differences),
        ]

    def _accepted_cases(self, answered: Sequence[tuple[Case, Arrays]]) -> list[tuple[Case, Arrays]]:
        """Return the cases and answers without those that the export's shapes or datatypes exclude."""
        signature, kept = self._loaded.signature, []
        for case, expected in answered:
            if case.generated and not interface.accepts_sizes(signature, case.inputs, self._source.batches):
                self._excluded = self._excluded or f"'{case.name}' has a size that the export does not accept"
                continue
            try:
                inputs = interface.cast(case.inputs, signature.inputs)
            except OverflowError as error:
                self._excluded = str(error)
                continue
            kept.append((case._replace(inputs=inputs), expected))
        return kept

    async def _infer(
        self, cases: Sequence[Case], timed: Case | None = None
    ) -> tuple[dict[str, Any], list[Arrays | None]]:
        """Return the job's answer, and the outputs for each case; None where the export fails."""
        files = [case_files.write(case, self._folder) for case in cases]
        row = case_files.write(timed, self._folder) if timed else None
        fixed = interface.fixed_rows(self._loaded.signature) if self._source.batches else 0
        results = self._jobs.folder(f"{self._loaded.runner.name} results")
        job = CasesJob(self._loaded.load, files=files, results=results, fixed=fixed, timed=row)
        answer = await self._jobs.run(self._loaded.environment, job.to_json())
        outputs = [
            None if "failed" in result else case_files.read(results / file.name)
            for file, result in zip(files, answer["answers"], strict=True)
        ]
        return answer, outputs

    def _as_original(self, expected: Arrays, outputs: Arrays) -> Arrays:
        """Return the outputs in the original's datatypes.

        Raises RouteFailed if they have other datatypes than the export declares.
        """
        declared = {spec.name: numpy_dtype(spec.datatype) for spec in self._loaded.signature.outputs}
        for name, array in outputs.items():
            if name in declared and array.dtype != declared[name]:
                raise RouteFailed(
                    f"output '{name}' is {array.dtype}, but the export's own signature declares {declared[name]}"
                )
        return {
            name: array.astype(expected[name].dtype) if name in expected else array for name, array in outputs.items()
        }

    async def _compare(self, answers: Sequence[Answers]) -> list[OutputDifference]:
        """Return the difference of each output. If few inputs differ, look for noise by moving them."""
        specs = self._source.signature.outputs
        labels = self._source.config.labels_of(self._source.signature)
        names, scores = [spec.name for spec in specs], classifiers(specs, labels)

        def compare(answers: Sequence[Answers]) -> tuple[list[OutputDifference], set[str]]:
            found = comparison.compare(names, answers, self._limits.tolerance, scores, few_neighbors=True)
            return found, {case for each in found for case in each.differing}

        if any(rounding.is_coarse(spec.datatype) for spec in specs):
            answers = await self._in_fp32(answers)
        found, differing = compare(answers)
        if differing and not answers[0].own and self._source.format in _IN_FP32:
            answers = await self._in_fp32(answers)  # it may compute in 16 bits between inputs and outputs in FP32
            found, differing = compare(answers)
        if not differing or 2 * len(differing) > len(answers):
            return found
        moved = await self._original.moved(sorted(differing))
        again = [each._replace(moved=[outputs for _, outputs in moved.get(each.case, ())]) for each in answers]
        found, differing = compare(again)
        doubtful = [
            case for case, _ in self._original.answered if case.generated and case.exact and case.name in differing
        ]
        off = {case.name for case in doubtful if await self._differs_off_the_grid(moved[case.name], found)}
        return (
            compare([each._replace(exact=each.exact and each.case not in off) for each in again])[0] if off else found
        )

    async def _in_fp32(self, answers: Sequence[Answers]) -> list[Answers]:
        """Put what the original would compute in FP32 in place of its answers, where its framework can do that."""
        precise = await self._original.in_fp32() if self._source.format in _IN_FP32 else {}
        return [each._replace(original=precise.get(each.case, each.original), own=each.original) for each in answers]

    async def _compare_large(self, found: Sequence[tuple[LargeAnswer, Arrays]]) -> dict[str, int]:
        """Return output → the smallest magnitude of large integers (an exponent of two) for which it differs.

        Only differences that a datatype of the interface causes are none, because a note names these datatypes.
        """
        names, tolerance = [spec.name for spec in self._source.signature.outputs], self._limits.tolerance
        declared = {spec.name: numpy_dtype(spec.datatype) for spec in self._loaded.signature.outputs}
        differs: dict[str, int] = {}
        for (case, expected, exact), outputs in found:
            ours, theirs = large.without_misfits(expected, outputs, declared)
            answers = Answers(case.name, ours, theirs)
            differing = [each.name for each in comparison.compare(names, [answers], tolerance) if each.differing]
            if differing and self._source.format in _IN_FP32:
                precise = (await self._original.large_in_fp32()).get(case.name, expected)
                answers = answers._replace(original=large.without_misfits(precise, outputs, declared)[0], own=ours)
                differing = [each.name for each in comparison.compare(names, [answers], tolerance) if each.differing]
            if set(differing) - exact:  # it is a function of FP32, where rounding may be magnified
                moved = answers._replace(moved=await self._original.moved_large(case), exact=False)
                by_noise = comparison.compare(names, [moved], tolerance)
                differing = [each.name for each in by_noise if each.differing or each.name in exact & set(differing)]
            for name in differing:
                differs[name] = min(differs.get(name, case.magnitude), case.magnitude)
        return differs

    async def _differs_off_the_grid(
        self, moved: Sequence[tuple[Case, Arrays]], found: Sequence[OutputDifference]
    ) -> bool:
        """Whether the export also differs for inputs slightly off the grid.

        If so, the grid is not the reason, as it is if the two round halves differently.
        """
        if not moved:
            return False
        inputs = self._loaded.signature.inputs
        cases = [case._replace(inputs=interface.cast(case.inputs, inputs)) for case, _ in moved]
        _, outputs = await self._infer(cases)
        pairs = [
            Answers(case.name, ours, theirs) for (case, ours), theirs in zip(moved, outputs, strict=True) if theirs
        ]
        names = [each.name for each in found if each.differing]
        compared = comparison.compare(names, pairs, self._limits.tolerance)
        return bool(pairs) and all(each.differing or each.problem for each in compared)


def classifiers(outputs: Sequence[TensorSpec], labels: Container[str]) -> frozenset[str]:
    """Return the outputs that have labels; if none has, those that look like scores."""
    labelled = frozenset(spec.name for spec in outputs if spec.name in labels)
    return labelled or frozenset(s.name for s in outputs if looks_like_classes(s.shape, s.datatype))
