"""One export, from the model to a folder: convert, prove, and go on to the next route where that fails."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gateway import __version__
from gateway.environments.environment import Environment
from gateway.export import cases as files
from gateway.export import package, proof, runners
from gateway.export.cases import Case
from gateway.export.errors import CannotExport
from gateway.export.example import example_json
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.original import Original
from gateway.export.report import Attempt, Report, Side, size_and_digest
from gateway.export.routes import PRECISIONS, TARGETS, Route, Tool, routes
from gateway.export.source import Environments, Source, convert_job, find, is_path, open_source, with_outputs
from gateway.repository.scan import ModelConfig, with_runtime

_SAMPLES = "samples.npz"
_MAX_REASONS = 6
_MAX_FLOAT16 = 65504


@dataclass(frozen=True)
class ExportRequest:
    """What the user asked for.

    model      a name in the repository, or an artifact's path
    check      inputs to compare on
    calibrate  inputs as they are in use, for int8
    tolerance  None: the precision's own
    shapes     input → sizes, where they are open
    allow_loss  take an export that is right by each output's largest value alone
    """

    model: str
    target: str
    out: Path
    repository: Path = Path("model_repo")
    version: str = ""
    signature: str = ""
    precision: str = "float32"
    check: Path | None = None
    calibrate: Path | None = None
    tolerance: float | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    overwrite: bool = False
    allow_loss: bool = False


async def export(wanted: ExportRequest, environments: Environments, told: Callable[[str], None]) -> Report:
    """Make the folder wanted.out, whole or not at all. Raises CannotExport.

    told  gets a line for people now and then
    """
    _check(wanted)
    out = wanted.out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise CannotExport(f"{wanted.out} cannot be written: {error.strerror}") from None
    try:
        report = await _Export(wanted, folder, environments, told).run()
        _put(folder, out, wanted)
        return report
    except OSError as error:
        raise CannotExport(f"{wanted.out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, out: Path, wanted: ExportRequest) -> None:
    """What was made, in its place. Raises CannotExport, OSError; then what was there is there again."""
    _check_place(wanted)  # once more: minutes have passed
    there = out.exists()
    if there:
        os.replace(out, folder / "replaced")
    try:
        os.replace(folder / "result", out)
    except OSError:
        if there:
            os.replace(folder / "replaced", out)
        raise


def _check_place(wanted: ExportRequest) -> None:
    out = wanted.out
    if out.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise CannotExport(f"{out} holds where you are: give --out a folder of its own")
    if not out.exists():
        return
    if not wanted.overwrite:
        raise CannotExport(f"{out} is there already: give another --out, or --overwrite")
    if not out.is_dir() or (any(out.iterdir()) and not (out / "export.json").exists()):
        raise CannotExport(f"{out} is no export that --overwrite might replace: give another --out")


def _check(wanted: ExportRequest) -> None:
    if wanted.target not in TARGETS:
        raise CannotExport(f"there is no target '{wanted.target}'; there are {', '.join(TARGETS)}")
    if wanted.precision not in PRECISIONS:
        raise CannotExport(f"there is no precision '{wanted.precision}'; there are {', '.join(PRECISIONS)}")
    if wanted.precision == "int8" and wanted.calibrate is None:
        raise CannotExport("int8 needs to see inputs as they are in use: give some with --calibrate DATA.npz")
    if wanted.tolerance is not None and not 0 <= wanted.tolerance < float("inf"):
        raise CannotExport(
            f"a tolerance of {wanted.tolerance} says nothing: it must be a number from 0 on, such as 0.001"
        )
    _check_place(wanted)


class _Made(NamedTuple):
    """What a route ended in. notes: the tools' sentences."""

    format: str
    artifact: Path
    proven: runners.Proof
    notes: Sequence[str]


class _Export:
    def __init__(
        self, wanted: ExportRequest, folder: Path, environments: Environments, told: Callable[[str], None]
    ) -> None:
        self._wanted = wanted
        self._folder = folder
        self._environments = environments
        self._jobs = Jobs(folder, lambda line: None)
        self._told = told
        self._tolerance = proof.TOLERANCES[wanted.precision] if wanted.tolerance is None else wanted.tolerance
        self._tools: dict[str, Environment] = {}
        self._given: dict[str, tuple[Path, list[str]] | RouteFailed] = {}
        self._config: ModelConfig

    async def run(self) -> Report:
        wanted = self._wanted
        config = find(wanted.model, wanted.repository, wanted.version, self._environments.known)
        self._config = config = with_runtime(config, self._environments.can)
        self._told(f"loading {config.name} in its own framework")
        data = wanted.check or self._recorded()
        seen = {data.name: files.shapes_of(data)} if data else {}
        source = await open_source(config, wanted.signature, wanted.shapes, self._environments, self._jobs, seen)
        found = routes(source.format, wanted.target, wanted.precision)
        chosen, origin = self._cases(source)
        calibration = self._calibration(source)
        self._told(f"running the original on {len(chosen)} inputs ({origin})")
        original = Original(source, self._jobs)
        await original.answer(chosen, self._tolerance)
        answered = original.answered
        if original.refused:
            origin += f"; the original refused {original.refused} more"
        source = with_outputs(source, answered)
        attempts: list[Attempt] = []
        detail, advice = "", ""
        for route in found:
            self._told(f"converting by {route.name}" + (f" ({route.about})" if route.about else ""))
            try:
                made = await self._made(source, route, original, calibration)
                taken = [*attempts, Attempt(route.name, route.about, "")]
                return await self._finish(source, made, taken, origin, original)
            except RouteFailed as error:
                self._told(f"  that failed: {error}")
                attempts.append(Attempt(route.name, route.about, str(error), isinstance(error, runners.Differs)))
                detail, advice = error.detail or detail, advice or error.advice
        if not advice and chosen[0].generated and any(each.compared for each in attempts):
            advice = (
                "the inputs were generated; if they make no sense for this model, provide real ones with "
                "--check DATA.npz"
            )
        raise CannotExport(refusal(config.name, wanted.target, attempts, advice), detail)

    async def _made(self, source: Source, route: Route, original: Original, calibration: Sequence[Path]) -> _Made:
        """What the route gives, put where it will lie, and proven there. Raises RouteFailed."""
        format, result = route.gives(source.format), self._folder / "result"
        artifact, notes = await self._convert(source, route, original.answered[0][0], calibration)
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        named = await package.place(format, artifact, result, source, self._environments, self._jobs)
        self._told("comparing it with the original")
        environments, jobs = self._environments, self._jobs
        limits = runners.Limits(self._tolerance, self._wanted.allow_loss)
        proven = await runners.prove(format, named, source, original, limits, environments, jobs)
        refused = [f"output '{name}' is left out: {why}" for name, why in source.signature.refused.items()]
        return _Made(format, named, proven, [*notes, *refused])

    def _of_float16(self, format: str, original: Original) -> list[str]:
        """What a proof on a CPU cannot show."""
        if self._wanted.precision != "float16" or format == "tfjs":  # which stores, and does not compute, in 16 bits
            return []
        seen = [
            array
            for case, outputs in original.answered
            for array in (*case.inputs.values(), *outputs.values())
            if array.dtype.kind == "f"
        ]
        beyond = any(np.any(np.isfinite(each) & (np.abs(each) > _MAX_FLOAT16)) for each in seen)
        also = ", as inputs or outputs of the proof have," if beyond else ""
        return [
            f"the proof ran on a CPU, which computes in float32: hardware that computes in float16 makes infinities "
            f"of values beyond {_MAX_FLOAT16}{also} and of such values inside of the model"
        ]

    def _recorded(self) -> Path | None:
        """The requests that the repository has of this model."""
        wanted = self._wanted
        file = wanted.repository / self._config.name / _SAMPLES
        return file if file.exists() and not is_path(wanted.model, wanted.repository) else None

    def _cases(self, source: Source) -> tuple[list[Case], str]:
        """Inputs to compare on, and where they are from."""
        wanted, specs = self._wanted, source.signature.inputs
        if wanted.check is not None:
            return files.read_cases(wanted.check, specs), str(wanted.check.name)
        if recorded := self._recorded():
            return files.read_cases(recorded, specs), f"recorded in {_SAMPLES}"
        if wanted.precision == "int8" and wanted.calibrate is not None:
            # What it was not calibrated for it may cut off.
            return files.read_cases(wanted.calibrate, specs), "the calibration data"
        return files.generated(
            specs, source.shapes, source.batches, source.pixels, source.ranges
        ), "generated from its signature"

    def _calibration(self, source: Source) -> list[Path]:
        if self._wanted.calibrate is None:
            return []
        folder = self._jobs.folder("calibration")
        return [files.write(case, folder) for case in files.read_cases(self._wanted.calibrate, source.signature.inputs)]

    async def _convert(
        self, source: Source, route: Route, case: Case, calibration: Sequence[Path]
    ) -> tuple[Path, list[str]]:
        """What comes out of the route's last tool, and the tools' notes. Raises RouteFailed."""
        folder = self._jobs.folder("example")
        example = files.write(Case("example", files.one_row(case.inputs, source.batches)), folder)
        at, notes = source.path, [route.about] if route.about else []
        for number, tool in enumerate(route.tools):
            # Routes begin alike: what a tool gave, or why it did not, is the same the second time.
            key = repr(route.tools[: number + 1])
            if key not in self._given:
                self._told(f"  {tool.environment}: {tool.function}")
                served = replace(source, key="serving_default") if number else source
                self._given[key] = await self._step(tool, served, at, example, calibration)
            given = self._given[key]
            if isinstance(given, RouteFailed):
                raise given
            at = given[0]
            notes += given[1]
        return at, notes

    async def _step(
        self, tool: Tool, source: Source, at: Path, example: Path, calibration: Sequence[Path]
    ) -> tuple[Path, list[str]] | RouteFailed:
        """One tool's result and notes, or why there is none."""
        environment = await self._environments.get(tool.environment)
        self._tools[tool.environment] = environment
        made = self._jobs.folder(tool.function) / f"model{_suffix(tool)}"
        job = convert_job(tool.function, environment, source, at, made, tool.options, example, calibration)
        try:
            told = await self._jobs.run(environment, job)
        except RouteFailed as error:
            return error
        return (made, told["notes"]) if made.exists() else RouteFailed(f"{tool.function} ended without a result")

    async def _finish(
        self,
        source: Source,
        made: _Made,
        attempts: Sequence[Attempt],
        origin: str,
        original: Original,
    ) -> Report:
        wanted = self._wanted
        result, named = self._folder / "result", made.artifact
        originals, exported = package.parts(source.format, source.path), package.parts(made.format, named)
        before, after = size_and_digest(originals), size_and_digest(exported)
        proven = made.proven
        runner = proven.environment
        quickest = min((run.seconds for run in proven.runs if run.seconds), default=None)
        report = Report(
            model=source.config.name,
            version=source.config.version,
            target=wanted.target,
            precision=wanted.precision,
            tolerance=self._tolerance,
            original=Side(
                source.path.name, source.format, source.environment.runtime.title, *before, original.seconds,
                source.environment.installed,
            ),
            exported=Side(
                named.relative_to(result).as_posix() if named != result else "model.json", made.format,
                runner.runtime.title, *after, quickest, runner.installed,
            ),
            inputs=proven.signature.inputs,
            outputs=proven.signature.outputs,
            cases=min(run.cases for run in proven.runs if run.cases),
            origin=origin,
            runs=proven.runs,
            attempts=attempts,
            notes=list(dict.fromkeys([*made.notes, *proven.notes, *self._of_float16(made.format, original)])),
            tools={name: environment.installed for name, environment in self._tools.items()},
            modelport=__version__,
            fixed=proven.fixed,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        example = example_json(original.answered, proven.signature, source.batches, self._tolerance)
        return await package.complete(result, named, made.format, source, report, example, self._environments)


def _suffix(tool: Tool) -> str:
    return {"tflite": ".tflite", "onnx": ".onnx"}.get(tool.gives, "")


def refusal(model: str, target: str, attempts: Sequence[Attempt], advice: str) -> str:
    """Why no route gave an export. What the user can do comes before the tools' own, often long, messages."""
    reasons = list(dict.fromkeys(f"{each.route}: {each.problem}" for each in attempts))
    more = f"; and {len(reasons) - _MAX_REASONS} more" if len(reasons) > _MAX_REASONS else ""
    told = "; ".join(reasons[:_MAX_REASONS]) + more
    return (
        f"model '{model}' cannot be exported to {target}{f': {advice}' if advice else ''}. Every route failed: {told}"
    )
