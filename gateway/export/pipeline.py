"""The export of a pipeline: the model of each step by itself, then the whole, compared end to end."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gateway import __version__
from gateway.domain.pipeline import Step
from gateway.domain.types import ModelStatus
from gateway.export import cases as case_files
from gateway.export import example
from gateway.export.errors import CannotExport
from gateway.export.export import (
    RESULT,
    Domain,
    Exported,
    ExportRequest,
    ModelExport,
    check,
    check_datatypes,
    choose_cases,
    recorded,
    written,
)
from gateway.export.graph import Node, Outcome, run_graph
from gateway.export.jobs import Jobs
from gateway.export.pipeline_comparison import WholeComparison
from gateway.export.pipeline_plan import Plan, plan_of, refusal
from gateway.export.pipeline_report import ExportedStep, PipelineReport
from gateway.export.report import Run
from gateway.export.runners import RUNNERS
from gateway.export.source import Source, open_source
from gateway.export.verdict import Limits, advice, mismatch
from gateway.export.verification import load_export
from gateway.export.workspace import Environments, Workspace
from gateway.lifecycle.pipeline_signature import Mismatch, pipeline_interface
from runtimes import array_files
from runtimes.contract import InputRange, Signature

Shapes = dict[str, tuple[int, ...]]
_GENERATED = (
    "the inputs were generated; if they make no sense for this pipeline, provide real ones with --check DATA.npz"
)


async def export_pipeline(
    request: ExportRequest, environments: Environments, on_progress: Callable[[str], None]
) -> PipelineReport:
    """Write the folder request.out, with a subfolder for each step's model, completely or not at all.

    on_progress  called with one line of text for each step

    Raises CannotExport: before any work if the files of a step show that it cannot be exported.
    """
    check(request)
    plan = plan_of(request, environments)
    with written(request) as folder:
        return await _PipelineExport(request, plan, folder, environments, on_progress).run()


class _PipelineExport:
    def __init__(
        self,
        request: ExportRequest,
        plan: Plan,
        folder: Path,
        environments: Environments,
        on_progress: Callable[[str], None],
    ) -> None:
        self._request = request
        self._plan = plan
        self._folder = folder
        self._workspace = Workspace(environments, Jobs(folder, lambda line: None))
        self._on_progress = on_progress

    async def run(self) -> PipelineReport:
        request, plan, jobs = self._request, self._plan, self._workspace.jobs
        opened = await self._open()
        sources = [opened[name] for name in plan.names]
        signature = self._signature(sources)
        cases, origin = choose_cases(request, plan.config, domain(signature, plan.steps, sources))
        originals = [Node.of_original(*each) for each in zip(plan.steps, sources, strict=True)]
        self._on_progress(f"running the originals on {len(cases)} inputs ({origin})")
        outcomes = await run_graph(originals, cases, jobs)
        answered = [each for each in outcomes if not each.refusal]
        if not answered:
            raise CannotExport(
                f"pipeline '{plan.config.name}' refuses all inputs ({outcomes[0].refusal}): provide some that it "
                "accepts with --check DATA.npz"
            )
        if len(answered) < len(outcomes):
            origin += f"; the originals refused {len(outcomes) - len(answered)} more"
        real = [] if cases[0].generated else answered
        calibration = await self._calibration(originals, signature)
        exported = {name: await self._export(name, real, calibration) for name in plan.models}
        signature = self._signature([exported[name].folder.source for name in plan.names])
        whole = WholeComparison(originals, signature, plan.config.class_labels, request.allowed, jobs)
        run, compared, notes = await self._compare(whole, exported, answered)
        pairs = [(each.case, whole.outputs(each)) for each in compared]
        document = example.example_json(pairs, signature, False, request.allowed)
        (self._folder / RESULT / "example.json").write_text(example.dump(document))
        report = self._report(exported, signature, run, origin, notes)
        report.write(self._folder / RESULT)
        return report

    async def _open(self) -> dict[str, Source]:
        """Describe each model. Raises CannotExport, which names all steps that cannot be exported."""
        plan = self._plan
        opened: dict[str, Source] = {}
        reasons: dict[str, str] = {}
        for name, config in plan.models.items():
            self._on_progress(f"loading {name} in its own framework")
            shapes = self._of_inputs(name, self._request.shapes)
            try:
                opened[name] = await open_source(config, "", shapes, self._workspace, self._recorded(name))
                check_datatypes(opened[name].signature, self._request.target)
            except CannotExport as error:
                reasons.update({str(step): str(error) for step in plan.steps_of(name)})
        for name, source in opened.items():
            for step in plan.steps_of(name):
                inputs = [spec.name for spec in source.signature.inputs]
                if missing := [each for each in inputs if each not in step.inputs]:
                    reasons[str(step)] = f"no tensor is mapped to its input '{missing[0]}', which an export requires"
        if reasons:
            raise refusal(plan.config.name, self._request.target, plan.steps, reasons)
        return opened

    def _recorded(self, name: str) -> dict[str, Shapes]:
        """Return file of recorded inputs → input of the model → shape."""
        found: dict[str, Shapes] = {}
        if own := recorded(self._request, self._plan.models[name].name):
            found[own.name] = case_files.shapes_of(own)
        if data := self._request.check or recorded(self._request, self._plan.config.name):
            found[f"{data.name} of the pipeline"] = self._of_inputs(name, case_files.shapes_of(data))
        return found

    def _of_inputs(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
        """Return input of the model → the shape of the pipeline's tensor that it gets, if that is given."""
        pairs = [pair for step in self._plan.steps_of(name) for pair in step.inputs.items()]
        return {key: shapes[tensor] for key, tensor in pairs if tensor in shapes}

    def _signature(self, sources: Sequence[Source]) -> Signature:
        """Return the pipeline's signature. Raises CannotExport if the steps do not fit together."""
        config = self._plan.config
        statuses = [
            ModelStatus(each.config.name, each.config.version, "READY", signatures={each.key: each.signature})
            for each in sources
        ]
        try:
            return pipeline_interface(self._plan.steps, statuses, config.toml, config.class_labels).signature
        except Mismatch as mismatch:
            raise CannotExport(f"pipeline '{config.name}' cannot be served: {mismatch}") from None

    async def _calibration(self, originals: Sequence[Node], signature: Signature) -> list[Outcome]:
        """Run the originals on the calibration data, which is for the pipeline's inputs."""
        if self._request.calibrate is None:
            return []
        cases = case_files.read_cases(self._request.calibrate, signature.inputs)
        outcomes = await run_graph(originals, cases, self._workspace.jobs)
        for each in outcomes:
            if each.refusal:
                raise CannotExport(f"the pipeline refuses '{each.case.name}': {each.refusal}")
        return outcomes

    async def _export(self, name: str, real: Sequence[Outcome], calibration: Sequence[Outcome]) -> Exported:
        """Export one model. real: runs that show its real inputs; empty: generate some."""
        config = self._plan.models[name]
        scratch, result = self._folder / f"export of {name}", self._folder / RESULT
        scratch.mkdir()
        result.mkdir(exist_ok=True)
        request = replace(
            self._request,
            model=config.name,
            version=config.version,
            check=self._seen(name, real, scratch / "check.npz"),
            calibrate=self._seen(name, calibration, scratch / "calibration.npz"),
            shapes=self._of_inputs(name, self._request.shapes),
        )

        def on_progress(line: str) -> None:
            self._on_progress(f"{name}: {line}")

        try:
            return await ModelExport(request, scratch, result / name, self._workspace.environments, on_progress).run()
        except CannotExport as error:
            raise CannotExport(
                f"pipeline '{self._plan.config.name}' cannot be exported as a whole: {error}", error.detail
            ) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _seen(self, name: str, runs: Sequence[Outcome], file: Path) -> Path | None:
        """Write what the model got in these runs, as a file for --check; None if there are no runs."""
        if not runs:
            return None
        got = [(run, step) for run in runs for step in self._plan.steps_of(name)]
        arrays = {
            f"{key}.{number}": run.tensors[tensor]
            for number, (run, step) in enumerate(got)
            for key, tensor in step.inputs.items()
        }
        array_files.write(str(file), arrays)
        return file

    async def _compare(
        self, whole: WholeComparison, exported: Mapping[str, Exported], answered: Sequence[Outcome]
    ) -> tuple[Run, list[Outcome], list[str]]:
        """Run the exports as the originals were, and compare: see WholeComparison.run. Raises CannotExport."""
        self._on_progress("comparing the whole with the originals")
        nodes, runners = [], []
        for step, name in zip(self._plan.steps, self._plan.names, strict=True):
            folder = exported[name].folder
            runner = RUNNERS[folder.model_format][0]
            loaded = await load_export(runner, folder.model, folder.source, self._workspace)
            nodes.append(Node.of_export(step, folder.source, loaded))
            runners.append(runner.name)
        limits = Limits(self._request.allowed, self._request.allow_loss)
        try:
            outcomes = await run_graph(nodes, [each.case for each in answered], self._workspace.jobs)
            run, compared, notes = await whole.run(", ".join(dict.fromkeys(runners)), answered, outcomes)
            if problem := mismatch(run, limits):
                tip = advice(run, limits) or (_GENERATED if answered[0].case.generated else "")
                raise CannotExport(f"{problem}{f' ({tip})' if tip else ''}")
        except CannotExport as error:
            raise CannotExport(
                f"pipeline '{self._plan.config.name}' cannot be exported as a whole, although the model of each step "
                f"can: {error}",
                error.detail,
            ) from None
        return run, compared, notes

    def _report(
        self, exported: Mapping[str, Exported], signature: Signature, run: Run, origin: str, notes: Sequence[str]
    ) -> PipelineReport:
        request, plan = self._request, self._plan
        steps = []
        for step, name in zip(plan.steps, plan.names, strict=True):
            config, folder = plan.models[name], exported[name].folder
            steps.append(
                ExportedStep(
                    config.name,
                    config.version,
                    name,
                    folder.model_name,
                    folder.model_format,
                    step.inputs,
                    step.outputs,
                )
            )
        of_models = [f"{name}: {note}" for name, each in exported.items() for note in each.report.notes]
        return PipelineReport(
            model=plan.config.name,
            version=plan.config.version,
            target=request.target,
            precision=request.precision,
            tolerance=request.allowed,
            inputs=signature.inputs,
            outputs=signature.outputs,
            steps=steps,
            cases=run.cases,
            origin=origin,
            runs=[run],
            notes=[*notes, *of_models],
            modelport=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def domain(signature: Signature, steps: Sequence[Step], sources: Sequence[Source]) -> Domain:
    """Return what the steps know about the pipeline's inputs. sources: of each step."""
    shapes: Shapes = {}
    ranges: dict[str, InputRange] = {}
    for spec in signature.inputs:
        ends = [
            (source, name)
            for step, source in zip(steps, sources, strict=True)
            for name, tensor in step.inputs.items()
            if tensor == spec.name
        ]
        accepted = ends[0][0].shapes[ends[0][1]]
        declared = spec.shape if spec.shape is not None else (-1,) * len(accepted)
        shapes[spec.name] = tuple(b if a < 0 else a for a, b in zip(declared, accepted, strict=True))
        known = [source.ranges[name] for source, name in ends if name in source.ranges]
        if known:
            ranges[spec.name] = known[0]
    batches = all(source.batches for source in sources) and all(
        spec.shape is None or spec.shape[:1] == (-1,) for spec in signature.inputs
    )
    return Domain(signature.inputs, shapes, batches, ranges)
