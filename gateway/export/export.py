"""One export, from the model to a folder: convert by each route until the result is verified."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gateway import __version__
from gateway.export import cases as case_files
from gateway.export import package
from gateway.export.cases import Case
from gateway.export.comparison import TOLERANCES
from gateway.export.conversion import Converter
from gateway.export.errors import CannotExport
from gateway.export.example import example_json
from gateway.export.folder import ExportFolder, model_files
from gateway.export.jobs import Jobs, RouteFailed
from gateway.export.original import Original
from gateway.export.report import Attempt, Report, Side, size_and_digest
from gateway.export.routes import PRECISIONS, SMALL_DATATYPES, TARGETS, Route, routes
from gateway.export.source import Source, find, is_path, open_source, pixels
from gateway.export.verdict import Limits
from gateway.export.verification import Differs, Verification, verify
from gateway.export.workspace import Environments, Workspace
from gateway.repository.model_config import ModelConfig, with_runtime
from runtimes.contract import DATATYPES, InputRange, Signature, TensorSpec

_SAMPLES = "samples.npz"
# Enough for every kind of failure of one model, few enough for one line of a terminal or a JSON error.
_MAX_REASONS = 6
_MAX_FLOAT16 = 65504
RESULT = "result"


@dataclass(frozen=True)
class ExportRequest:
    """What the user asked for.

    model      a name in the repository, or an artifact's path
    check      a file of inputs for the comparison
    calibrate  a file of real inputs, for int8
    tolerance  None: the default for the precision
    shapes     input → shape, for inputs with dynamic sizes
    allow_loss whether to accept an export that matches only in each output's largest value
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

    @property
    def allowed(self) -> float:
        """The largest difference that is accepted."""
        return TOLERANCES[self.precision] if self.tolerance is None else self.tolerance


async def export(request: ExportRequest, environments: Environments, on_progress: Callable[[str], None]) -> Report:
    """Write the folder request.out, completely or not at all. Raises CannotExport.

    on_progress  called with one line of text for each step
    """
    check(request)
    with written(request) as folder:
        exported = await ModelExport(request, folder, folder / RESULT, environments, on_progress).run()
    return exported.report


@contextmanager
def written(request: ExportRequest) -> Iterator[Path]:
    """Yield a new folder, whose subfolder RESULT becomes request.out if the block succeeds. Raises CannotExport."""
    out = request.out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise CannotExport(f"{request.out} cannot be written: {error.strerror}") from None
    try:
        yield folder
        _publish(folder, out, request)
    except OSError as error:
        raise CannotExport(f"{request.out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, out: Path, request: ExportRequest) -> None:
    """Move the result to `out`. Raises CannotExport, OSError; a folder that it would have replaced is then restored."""
    _check_out(request)  # again, because minutes have passed
    exists = out.exists()
    if exists:
        os.replace(out, folder / "replaced")
    try:
        os.replace(folder / RESULT, out)
    except OSError:
        if exists:
            os.replace(folder / "replaced", out)
        raise


def _check_out(request: ExportRequest) -> None:
    out = request.out
    if out.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise CannotExport(f"{out} contains the current folder: give --out another folder")
    if not out.exists():
        return
    if not request.overwrite:
        raise CannotExport(f"{out} exists already: give another --out, or --overwrite")
    if not out.is_dir() or (any(out.iterdir()) and not (out / "export.json").exists()):
        raise CannotExport(f"{out} is not an export, so --overwrite does not replace it: give another --out")


def check(request: ExportRequest) -> None:
    """Raise CannotExport if the request makes no sense, whatever the model is."""
    if request.target not in TARGETS:
        raise CannotExport(f"there is no target '{request.target}'; there are {', '.join(TARGETS)}")
    if request.precision not in PRECISIONS:
        raise CannotExport(f"there is no precision '{request.precision}'; there are {', '.join(PRECISIONS)}")
    if request.precision == "int8" and request.calibrate is None:
        raise CannotExport("int8 requires representative inputs: provide them with --calibrate DATA.npz")
    if request.tolerance is not None and not 0 <= request.tolerance < float("inf"):
        raise CannotExport(f"--tolerance is {request.tolerance}: it must be a number of at least 0, such as 0.001")
    _check_out(request)


def check_datatypes(signature: Signature, target: str) -> None:
    """Raise CannotExport if the target lacks a datatype of the interface."""
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            small = spec.datatype != "" and DATATYPES[spec.datatype].typestr is None
            if not small or spec.datatype in SMALL_DATATYPES.get(target, ()):
                continue
            have = [name for name, datatypes in SMALL_DATATYPES.items() if spec.datatype in datatypes]
            raise CannotExport(
                f"{kind} '{spec.name}' is {spec.datatype}, which {target} lacks: export the model to "
                f"{' or '.join(have)}, or convert to FP32 in the model"
            )


def recorded(request: ExportRequest, model: str) -> Path | None:
    """Return the file of recorded requests next to the model's model.toml; None if there is none."""
    file = request.repository / model / _SAMPLES
    return file if file.exists() and not is_path(request.model, request.repository) else None


class Domain(NamedTuple):
    """What is known about the inputs of a model: see the attributes of Source with these names."""

    inputs: Sequence[TensorSpec]
    shapes: Mapping[str, tuple[int, ...]]
    batches: bool
    ranges: Mapping[str, InputRange]

    @classmethod
    def of(cls, source: Source) -> "Domain":
        return cls(source.signature.inputs, source.shapes, source.batches, source.ranges)


def choose_cases(request: ExportRequest, config: ModelConfig, domain: Domain) -> tuple[list[Case], str]:
    """Return the inputs for the comparison, and their origin. Raises CannotExport."""
    if request.check is not None:
        return case_files.read_cases(request.check, domain.inputs), str(request.check.name)
    if file := recorded(request, config.name):
        return case_files.read_cases(file, domain.inputs), f"recorded in {_SAMPLES}"
    if request.precision == "int8" and request.calibrate is not None:
        # Values outside the calibrated range are clipped, so generated inputs would differ.
        return case_files.read_cases(request.calibrate, domain.inputs), "the calibration data"
    generated = case_files.generated(domain.inputs, domain.shapes, domain.batches, pixels(config), domain.ranges)
    return generated, "generated from its signature"


class _Result(NamedTuple):
    """What a route led to. notes: the tools' own sentences."""

    folder: ExportFolder
    verification: Verification
    notes: Sequence[str]


class Exported(NamedTuple):
    report: Report
    folder: ExportFolder


class ModelExport:
    """The export of one model. scratch: an existing folder for the tools' files; path: the folder to create."""

    def __init__(
        self,
        request: ExportRequest,
        scratch: Path,
        path: Path,
        environments: Environments,
        on_progress: Callable[[str], None],
    ) -> None:
        self._request = request
        self._path = path
        self._workspace = Workspace(environments, Jobs(scratch, lambda line: None))
        self._on_progress = on_progress
        self._tolerance = request.allowed
        self._config: ModelConfig

    async def run(self) -> Exported:
        """Raises CannotExport."""
        request, environments = self._request, self._workspace.environments
        config = find(request.model, request.repository, request.version, environments.known)
        self._config = config = with_runtime(config, environments.is_available)
        self._on_progress(f"loading {config.name} in its own framework")
        data = request.check or recorded(request, config.name)
        shapes = {data.name: case_files.shapes_of(data)} if data else {}
        source = await open_source(config, request.signature, request.shapes, self._workspace, shapes)
        check_datatypes(source.signature, request.target)
        found = routes(source.format, request.target, request.precision)
        cases, origin = choose_cases(request, config, Domain.of(source))
        calibration = self._calibration(source)
        self._on_progress(f"running the original on {len(cases)} inputs ({origin})")
        original = Original(source, self._workspace.jobs)
        await original.answer(cases, self._tolerance)
        if cases[0].generated:
            await original.answer_large()
        if original.refused:
            origin += f"; the original refused {original.refused} more"
        converter = self._converter(original, calibration)
        attempts: list[Attempt] = []
        detail, advice = "", ""
        for route in found:
            self._on_progress(f"converting by {route.name}" + (f" ({route.about})" if route.about else ""))
            try:
                result = await self._follow(route, converter, original)
                succeeded = [*attempts, Attempt(route.name, route.about, "")]
                report = self._report(result, original, succeeded, converter, origin)
                example = example_json(
                    original.answered, result.verification.signature, source.batches, self._tolerance
                )
                return Exported(await package.complete(result.folder, report, example, environments), result.folder)
            except RouteFailed as error:
                self._on_progress(f"  that failed: {error}")
                attempts.append(Attempt(route.name, route.about, str(error), isinstance(error, Differs)))
                detail, advice = error.detail or detail, advice or error.advice
        if not advice and cases[0].generated and any(each.compared for each in attempts):
            advice = (
                "the inputs were generated; if they make no sense for this model, provide real ones with "
                "--check DATA.npz"
            )
        raise CannotExport(refusal(config.name, request.target, attempts, advice), detail)

    async def _follow(self, route: Route, converter: Converter, original: Original) -> _Result:
        """Convert by this route, put the artifact into the export's folder, and verify it. Raises RouteFailed."""
        source = original.source
        artifact, notes = await converter.convert(route)
        shutil.rmtree(self._path, ignore_errors=True)
        self._path.mkdir()
        folder = await package.place(route.gives(source.format), artifact, self._path, source, self._workspace)
        self._on_progress("comparing it with the original")
        limits = Limits(self._tolerance, self._request.allow_loss)
        verification = await verify(folder.model_format, folder.model, original, limits, self._workspace)
        left_out = [f"output '{name}' is left out: {reason}" for name, reason in source.signature.refused.items()]
        return _Result(folder, verification, [*notes, *left_out])

    def _calibration(self, source: Source) -> list[Path]:
        if self._request.calibrate is None:
            return []
        folder = self._workspace.jobs.folder("calibration")
        cases = case_files.read_cases(self._request.calibrate, source.signature.inputs)
        return [case_files.write(case, folder) for case in cases]

    def _converter(self, original: Original, calibration: Sequence[Path]) -> Converter:
        source, (case, _) = original.source, original.answered[0]
        row = Case("example", case_files.one_row(case.inputs, source.batches))
        example = case_files.write(row, self._workspace.jobs.folder("example"))
        return Converter(source, self._workspace, example, calibration, self._on_progress)

    def _report(
        self, result: _Result, original: Original, attempts: Sequence[Attempt], converter: Converter, origin: str
    ) -> Report:
        source, folder, verification = original.source, result.folder, result.verification
        runs, runner = verification.runs, verification.environment
        size, digest = size_and_digest(model_files(source.format, source.path))
        exported_size, exported_digest = size_and_digest(model_files(folder.model_format, folder.model))
        notes = [*result.notes, *verification.notes, *self._float16_notes(folder.model_format, original), original.note]
        return Report(
            model=source.config.name,
            version=source.config.version,
            target=self._request.target,
            precision=self._request.precision,
            tolerance=self._tolerance,
            original=Side(
                path=source.path.name,
                format=source.format,
                runner=source.environment.runtime.title,
                bytes=size,
                sha256=digest,
                seconds=original.seconds,
                versions=source.environment.installed,
            ),
            exported=Side(
                path=folder.model_name,
                format=folder.model_format,
                runner=runner.runtime.title,
                bytes=exported_size,
                sha256=exported_digest,
                seconds=min((run.seconds for run in runs if run.seconds), default=None),
                versions=runner.installed,
            ),
            inputs=verification.signature.inputs,
            outputs=verification.signature.outputs,
            cases=min(run.cases for run in runs if run.cases),
            origin=origin,
            runs=runs,
            attempts=attempts,
            notes=list(dict.fromkeys(filter(None, notes))),
            tools={name: environment.installed for name, environment in converter.used.items()},
            modelport=__version__,
            fixed=verification.fixed,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _float16_notes(self, model_format: str, original: Original) -> list[str]:
        """Return a warning about what a comparison on a CPU cannot show."""
        # TensorFlow.js stores 16 bits but computes in 32.
        if self._request.precision != "float16" or model_format == "tfjs":
            return []
        floats = [
            array
            for case, outputs in original.answered
            for array in (*case.inputs.values(), *outputs.values())
            if array.dtype.kind == "f"
        ]
        beyond = any(np.any(np.isfinite(each) & (np.abs(each) > _MAX_FLOAT16)) for each in floats)
        also = ", which inputs or outputs of the comparison contain," if beyond else ""
        return [
            f"the comparison ran on a CPU, which computes in float32: on hardware that computes in float16, values "
            f"beyond {_MAX_FLOAT16}{also} become infinities, inside the model as well"
        ]


def refusal(model: str, target: str, attempts: Sequence[Attempt], advice: str) -> str:
    """Say why no route led to an export. Advice comes before the tools' own messages, which are often long."""
    reasons = list(dict.fromkeys(f"{each.route}: {each.problem}" for each in attempts))
    more = f"; and {len(reasons) - _MAX_REASONS} more" if len(reasons) > _MAX_REASONS else ""
    causes = "; ".join(reasons[:_MAX_REASONS]) + more
    return (
        f"model '{model}' cannot be exported to {target}{f': {advice}' if advice else ''}. Every route failed: {causes}"
    )
