"""Who runs an export to prove it: what will run it in the end, as far as this machine can."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway.environments.environment import Environment
from gateway.export import cases as files
from gateway.export import interface, known, proof
from gateway.export.cases import Arrays, Case
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.original import Original
from gateway.export.proof import Answers, OutputDifference
from gateway.export.report import Run
from gateway.export.source import Environments, Source, bare_load, cases_job
from gateway.process.cores import available_cores
from runtimes import wire
from runtimes.contract import Signature, numpy_dtype
from runtimes.control import Load

# What an export gives for inputs; None where it fails on them.
Ask = Callable[[Sequence[Case]], Awaitable[list[Arrays | None]]]


class Runner(NamedTuple):
    """environment: a runtime's, or a converter's with a runtime.py. required: what it refuses is no export.

    parameters: the runtime's [parameters].
    """

    name: str
    environment: str
    backend: str = ""
    required: bool = True
    parameters: Mapping[str, object] = MappingProxyType({})


RUNNERS = {
    "tflite": (Runner("LiteRT", "tflite"),),
    # With all of its optimizers, as programs of other people run it: see onnx_file.py.
    "onnx": (Runner("ONNX Runtime", "onnx", parameters={"disabled_optimizers": []}),),
    # The backends of a page that node has, too. Not every kernel exists in wasm.
    "tfjs": (
        Runner("TensorFlow.js cpu", "export-web", "cpu"),
        Runner("TensorFlow.js wasm", "export-web", "wasm", required=False),
    ),
}


class Limits(NamedTuple):
    """How far an export may be off: see proof.within."""

    tolerance: float
    allow_loss: bool = False


class Differs(RouteFailed):
    """An export was run, and computes something else."""


class Proof(NamedTuple):
    """signature: what the export says of itself. notes: sentences for the report; fixed: as report.Report has it."""

    signature: Signature
    runs: Sequence[Run]
    notes: Sequence[str]
    environment: Environment
    fixed: Sequence[str] = ()


async def prove(
    target: str,
    artifact: Path,
    source: Source,
    original: Original,
    limits: Limits,
    environments: Environments,
    jobs: Jobs,
) -> Proof:
    """The export run on all that the original answered. Raises RouteFailed when it is not the same."""
    runs: list[Run] = []
    found: Proof | None = None
    for runner in RUNNERS[target]:
        environment = await environments.get(runner.environment)
        parameters = {**runner.parameters, **({"backend": runner.backend} if runner.backend else {})}
        load = bare_load(environment.runtime, artifact, available_cores(), **parameters)
        try:
            told = await jobs.run(environment, cases_job(load, shapes=source.shapes))
            signature = wire.signature_from_json(told["signatures"][told["signature"]])
            wrong, notes = interface.differences(source.signature, signature)
            if wrong:
                raise RouteFailed(f"it is another interface: {wrong[0]}")
            fixed = fixed_sizes(source, signature)
            run, more = await _run(runner, environment, load, signature, source, original, limits, jobs)
        except RouteFailed as error:
            if runner.required:
                raise
            runs.append(Run(runner.name, (), None, f"it cannot run this model: {error}"))
            continue
        if problem := _problem(run, limits):
            if runner.required:
                raise Differs(problem)
            runs.append(Run(runner.name, (), None, f"it is left out: {problem}"))
            continue
        runs.append(run)
        found = found or Proof(signature, runs, [*notes, *more], environment, fixed)
    assert found is not None, "the first runner is required"
    return found


def fixed_sizes(source: Source, exported: Signature) -> list[str]:
    """Return a text for each input whose dynamic sizes (other than the batch) the export fixes.

    Raises RouteFailed if it fixes sizes that the user did not give.
    """
    given, found = {spec.name: spec.shape for spec in exported.inputs}, []
    for spec in source.signature.inputs:
        shape = given.get(spec.name) or ()
        pairs = list(zip(spec.shape or (), shape, strict=False))
        axes = [axis for axis, (was, now) in enumerate(pairs) if was < 0 <= now and (axis or not source.batches)]
        if not axes:
            continue
        sizes = ",".join(map(str, shape))
        if spec.name not in source.origins:
            wanted = ",".join("SIZE" if axis in axes else str(now) for axis, now in enumerate(shape))
            raise RouteFailed(
                f"it accepts '{spec.name}' only in the size {sizes}, which modelport made up",
                advice=f"give the size you need with --shape {spec.name}={wanted}",
            )
        found.append(f"{spec.name} fixed at {'x'.join(map(str, shape))} ({source.origins[spec.name]})")
    return found


async def _run(
    runner: Runner,
    environment: Environment,
    load: Load,
    signature: Signature,
    source: Source,
    original: Original,
    limits: Limits,
    jobs: Jobs,
) -> tuple[Run, list[str]]:
    """And notes."""
    folder = jobs.folder(runner.name)
    kept: list[tuple[Case, Arrays]] = []
    given, dropped = [], ""
    for case, expected in original.answered:
        if case.generated and not interface.takes(signature, case.inputs, source.batches):
            dropped = dropped or f"'{case.name}' has another size than the export is for"
            continue
        try:
            inputs = interface.cast(case.inputs, signature.inputs)
        except OverflowError as error:
            dropped = str(error)  # the export cannot be given these
            continue
        kept.append((case._replace(inputs=inputs), expected))
        given.append(files.write(kept[-1][0], folder))
    if not kept:
        raise RouteFailed(f"{runner.name}: none of the inputs can be given to it: {dropped}")
    fixed = interface.fixed_rows(signature) if source.batches else 0
    timed = files.write(Case("timed", files.one_row(kept[0][0].inputs, source.batches)), folder)

    async def run(given: Sequence[Path], timed: Path | None = None) -> tuple[dict[str, Any], Path]:
        results = jobs.folder(f"{runner.name} results")
        job = cases_job(load, files=given, results=results, fixed=fixed, timed=timed)
        return await jobs.run(environment, job), results

    async def ask(more: Sequence[Case]) -> list[Arrays | None]:
        given = [
            files.write(each._replace(inputs=interface.cast(each.inputs, signature.inputs)), folder) for each in more
        ]
        told, results = await run(given)
        return [
            None if "failed" in answer else files.read(results / file.name)
            for file, answer in zip(given, told["answers"], strict=True)
        ]

    told, results = await run(given, timed)
    answers: list[Answers] = []
    refused: list[tuple[str, str]] = []
    for (case, expected), file, answer in zip(kept, given, told["answers"], strict=True):
        if "failed" not in answer:
            got = _as(expected, files.read(results / file.name), signature)
            answers.append(Answers(case.name, expected, got, exact=case.exact))
        elif case.reaching:
            refused.append((case.name, answer["failed"]))
        else:
            raise RouteFailed(f"{runner.name} fails on input {case.name}: {answer['failed']}")
    if not answers:
        raise RouteFailed(f"{runner.name} fails on every input: {refused[0][1]}")
    differences = await _compared(answers, source, original, limits, ask)
    return Run(runner.name, differences, told["seconds"], cases=len(answers)), _notes(runner, differences, refused)


async def _compared(
    answers: Sequence[Answers], source: Source, original: Original, limits: Limits, ask: Ask
) -> list[OutputDifference]:
    """Where few inputs differ, they may be such that the original's own answers are noise: it is asked."""
    names, scores = [spec.name for spec in source.signature.outputs], classifiers(source)

    def compare(answers: Sequence[Answers]) -> tuple[list[OutputDifference], set[str]]:
        found = proof.compare(names, answers, limits.tolerance, scores)
        return found, {case for each in found for case in each.differing}

    found, differing = compare(answers)
    if not differing or 2 * len(differing) > len(answers):
        return found
    moved = await original.moved(sorted(differing))
    again = [each._replace(moved=[outputs for _, outputs in moved.get(each.case, ())]) for each in answers]
    found, differing = compare(again)
    doubtful = [case for case, _ in original.answered if case.generated and case.exact and case.name in differing]
    off = {case.name for case in doubtful if await _differs_off_the_grid(moved[case.name], found, ask, limits)}
    return compare([each._replace(exact=each.exact and each.case not in off) for each in again])[0] if off else found


async def _differs_off_the_grid(
    moved: Sequence[tuple[Case, Arrays]], found: Sequence[OutputDifference], ask: Ask, limits: Limits
) -> bool:
    """Whether an export differs from the original for inputs beside the grid as well: then that they are on it is not
    the reason, as it is where the two round halves differently."""
    if not moved:
        return False
    theirs = await ask([case for case, _ in moved])
    pairs = [Answers(case.name, ours, other) for (case, ours), other in zip(moved, theirs, strict=True) if other]
    names = [each.name for each in found if each.differing]
    return bool(pairs) and all(each.differing or each.problem for each in proof.compare(names, pairs, limits.tolerance))


def _notes(runner: Runner, differences: Sequence[OutputDifference], refused: Sequence[tuple[str, str]]) -> list[str]:
    notes = [
        f"output '{each.name}' is not compared on {', '.join(each.left_out)}: the original's own answer changes there "
        "when the input moves by one unit in the last place, or is a choice among equal scores"
        for each in differences
        if each.left_out
    ]
    if refused:
        name, why = refused[0]
        others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        notes.append(f"{runner.name} refuses input {name}{others}, which the original answers: {why}")
    notes += [f"output '{each.name}': {each.loss}" for each in differences if each.loss]
    return notes


def classifiers(source: Source) -> frozenset[str]:
    """Outputs that have labels; where none has any, those that look like scores."""
    outputs = source.signature.outputs
    labelled = frozenset(spec.name for spec in outputs if spec.name in source.config.class_labels)
    return labelled or frozenset(s.name for s in outputs if proof.looks_like_classes(s.shape, s.datatype))


def _as(a: Arrays, b: Arrays, signature: Signature) -> Arrays:
    """The export's outputs by the original's datatypes. Raises RouteFailed where they are not what the export says."""
    told = {spec.name: numpy_dtype(spec.datatype) for spec in signature.outputs}
    for name, array in b.items():
        if name in told and array.dtype != told[name]:
            raise RouteFailed(f"output '{name}' is {array.dtype}, where the export's own signature says {told[name]}")
    return {name: array.astype(a[name].dtype) if name in a else array for name, array in b.items()}


def _problem(run: Run, limits: Limits) -> str:
    """Why it is not the same, in a sentence; "" if it is."""
    for each in run.differences:
        if each.problem:
            return f"{run.runner}: output '{each.name}' cannot be right: {each.problem}"
        if proof.within(each, *limits):
            continue
        if each.relative <= limits.tolerance:
            return f"{run.runner}: of output '{each.name}' something is lost: {each.loss} (--allow-loss takes it)"
        where = f" in {each.where}" if each.where else ""
        return (
            f"{run.runner}: output '{each.name}' differs by {each.relative:.2g} of its largest value{where} "
            f"({each.absolute:.2g}, input {each.case}), where {limits.tolerance:g} is allowed"
            f"{_advice(each, limits)}{known.reference(each.differing)}"
        )
    return ""


def _advice(difference: OutputDifference, limits: Limits) -> str:
    """For what fewer bits do to small parts of an output; float32 has no such excuse."""
    quantised = limits.tolerance > proof.TOLERANCES["float32"]
    return " (--allow-loss takes it)" if quantised and proof.within(difference, limits.tolerance, True) else ""
