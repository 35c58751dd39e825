"""Who runs an export to prove it: what will run it in the end, as far as this machine can."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.environments.environment import Environment
from gateway.export import cases as files
from gateway.export import interface, proof
from gateway.export.cases import Arrays, Case
from gateway.export.report import Run, within
from gateway.export.source import Environments, Source, bare_load, infer_job
from gateway.export.tasks import Failed, Tasks
from gateway.repository.cores import available_cores
from runtimes import wire
from runtimes.contract import DATATYPES, Signature


class Runner(NamedTuple):
    """environment: a runtime's, or a converter's with a runtime.py. required: what it refuses is no export."""

    name: str
    environment: str
    backend: str = ""
    required: bool = True


RUNNERS = {
    "tflite": (Runner("LiteRT", "tflite"),),
    "onnx": (Runner("ONNX Runtime", "onnx"),),
    # The backends of a page that node has, too. Not every kernel exists in wasm.
    "tfjs": (
        Runner("TensorFlow.js cpu", "export-web", "cpu"),
        Runner("TensorFlow.js wasm", "export-web", "wasm", required=False),
    ),
}


class Proof(NamedTuple):
    """signature: what the export says of itself. notes: sentences for the report."""

    signature: Signature
    runs: Sequence[Run]
    notes: Sequence[str]
    environment: Environment


async def prove(
    target: str,
    artifact: Path,
    source: Source,
    answered: Sequence[tuple[Case, Arrays]],
    tolerance: float,
    environments: Environments,
    tasks: Tasks,
) -> Proof:
    """The export run on all that the original answered. Raises Failed when it is not the same."""
    runs: list[Run] = []
    found: Proof | None = None
    for runner in RUNNERS[target]:
        environment = await environments.get(runner.environment)
        parameters = {"backend": runner.backend} if runner.backend else {}
        load = bare_load(environment.runtime, artifact, available_cores(), **parameters)
        try:
            told = await tasks.run(environment, infer_job(load, shapes=source.shapes))
            signature = wire.signature_from_json(told["signatures"][told["signature"]])
            wrong, notes = interface.differences(source.signature, signature)
            if wrong:
                raise Failed(f"it is another interface: {wrong[0]}")
            run = await _run(runner, environment, load, signature, source, answered, tasks)
        except Failed as error:
            if runner.required:
                raise
            runs.append(Run(runner.name, (), None, f"it cannot run this model: {error}"))
            continue
        _check(run, tolerance)
        runs.append(run)
        found = found or Proof(signature, runs, notes, environment)
    assert found is not None, "the first runner is required"
    return found


async def _run(
    runner: Runner,
    environment: Environment,
    load: dict[str, object],
    signature: Signature,
    source: Source,
    answered: Sequence[tuple[Case, Arrays]],
    tasks: Tasks,
) -> Run:
    folder = tasks.folder(runner.name)
    kept: list[tuple[Case, Arrays]] = []
    given = []
    for case, expected in answered:
        try:
            inputs = interface.cast(case.inputs, signature.inputs)
        except OverflowError as error:
            dropped = str(error)  # the export cannot be given these
            continue
        kept.append((case._replace(inputs=inputs), expected))
        given.append(files.write(kept[-1][0], folder))
    if not kept:
        raise Failed(f"{runner.name}: none of the inputs can be given to it: {dropped}")
    fixed = interface.fixed_rows(signature) if source.batches else 0
    timed = files.write(Case("timed", one_row(kept[0][0].inputs, source.batches)), folder)
    results = tasks.folder(f"{runner.name} results")
    told = await tasks.run(environment, infer_job(load, files=given, results=results, fixed=fixed, timed=timed))
    compared = []
    for (case, expected), file, answer in zip(kept, given, told["answers"], strict=True):
        if "failed" in answer:
            raise Failed(f"{runner.name} fails on input {case.name}: {answer['failed']}")
        compared.append((case.name, expected, _as(expected, files.read(results / file.name), signature)))
    names = [spec.name for spec in source.signature.outputs]
    return Run(runner.name, proof.compare(names, compared, classifiers(source)), told["seconds"], cases=len(kept))


def classifiers(source: Source) -> frozenset[str]:
    """Outputs that have labels; where none has any, those that look like scores."""
    outputs = source.signature.outputs
    labelled = frozenset(spec.name for spec in outputs if spec.name in source.config.class_labels)
    return labelled or frozenset(s.name for s in outputs if proof.looks_like_classes(s.shape, s.datatype))


def one_row(inputs: Arrays, batches: bool) -> Arrays:
    return {name: array[:1] for name, array in inputs.items()} if batches else inputs


def _as(a: Arrays, b: Arrays, signature: Signature) -> Arrays:
    """The export's outputs by the original's datatypes. Raises Failed where they are not what the export says."""
    told = {spec.name: DATATYPES[spec.datatype] for spec in signature.outputs}
    for name, array in b.items():
        if name in told and array.dtype != told[name]:
            raise Failed(f"output '{name}' is {array.dtype}, where the export's own signature says {told[name]}")
    return {name: array.astype(a[name].dtype) if name in a else array for name, array in b.items()}


def _check(run: Run, tolerance: float) -> None:
    for each in run.differences:
        if each.problem:
            raise Failed(f"{run.runner}: output '{each.name}' cannot be right: {each.problem}")
        if not within(each, tolerance):
            raise Failed(
                f"{run.runner}: output '{each.name}' differs by {each.relative:.2g} of its largest value "
                f"({each.absolute:.2g}, input {each.case}), where {tolerance:g} is allowed"
            )
