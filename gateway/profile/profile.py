"""One profile, from the model to a folder: describe the model, measure it, recommend, time its operators, write."""

import asyncio
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from gateway import __version__
from gateway.export import cases
from gateway.export.cases import Case
from gateway.export.errors import CannotExport
from gateway.export.jobs import Jobs
from gateway.export.source import Source, describe, find, is_path
from gateway.export.workspace import Environments, Workspace
from gateway.process.cores import available_cores
from gateway.profile import inputs as profile_inputs
from gateway.profile.inputs import Inputs
from gateway.profile.output import write
from gateway.profile.point import Point
from gateway.profile.recommendation import Recommendation, recommend
from gateway.profile.record import Machine, Profile, Trace
from gateway.profile.sweep import Sweep
from gateway.repository.model_config import ModelConfig, with_runtime
from gateway.tensorboard import events
from runtimes.profiling import GraphNode, OperatorProfile

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
GENERATED = "generated"
_SAMPLES = "samples.npz"
# A load from which on other programs change the figures.
_BUSY = 0.5
# Instances that are measured together may use this share of the memory that is free.
_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class ProfileRequest:
    """What the user asked for.

    model        a name in the repository, or an artifact's path
    out          the folder to write
    runtime      the runtime to use, if several read the artifact; "" for the one that serves it
    batch_sizes  numbers of rows
    threads      numbers of threads; empty: powers of two up to the cores, and the cores
    inputs       a file of recorded inputs, or GENERATED; "": recorded ones if there are any beside model.toml
    shapes       input → shape, for inputs with dynamic sizes
    seconds      how long each point is measured
    apply        whether the model's model.toml is to be changed, so it must be in a repository
    allow_python whether the model may run code that its files bring
    """

    model: str
    out: Path
    repository: Path = Path("model_repo")
    version: str = ""
    signature: str = ""
    runtime: str = ""
    batch_sizes: Sequence[int] = BATCH_SIZES
    threads: Sequence[int] = ()
    latency_target_ms: float = 0.0
    inputs: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 1.0
    apply: bool = False
    allow_python: bool = False


@dataclass(frozen=True)
class Result:
    """config: the model whose model.toml the recommendation is for."""

    profile: Profile
    config: ModelConfig


async def profile(request: ProfileRequest, environments: Environments, on_progress: Callable[[str], None]) -> Result:
    """Measure the model, and write the folder request.out. Raises CannotExport.

    If it is cancelled while it measures, it writes what was measured until then, and returns that.
    """
    _check_out(request.out)
    with tempfile.TemporaryDirectory(prefix="modelport-profile-") as scratch:
        workspace = Workspace(environments, Jobs(Path(scratch), lambda line: None))
        result = await _measure(request, workspace, on_progress)
    try:
        write(result.profile, result.config, request.out)
    except OSError as error:
        raise CannotExport(f"{request.out} cannot be written: {error.strerror or error}") from None
    return result


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "profile.json").exists())):
        raise CannotExport(f"{out} is not a profile, so it is not replaced: give another --output")
    # Before the measurements, which would be lost.
    folder = next(each for each in (out.absolute(), *out.absolute().parents) if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise CannotExport(f"{folder} is not a folder that can be written to: give another --output")


async def _measure(request: ProfileRequest, workspace: Workspace, on_progress: Callable[[str], None]) -> Result:
    config = _find(request, workspace.environments)
    on_progress(f"loading {config.name} in its own framework")
    recorded = _recorded(request, config)
    shapes = {recorded.name: cases.shapes_of(recorded)} if recorded and recorded.suffix == ".npz" else {}
    source = await describe(
        config, request.signature, request.shapes, workspace, shapes, decide=True, allow_code=request.allow_python
    )
    inputs = profile_inputs.read(recorded, source) if recorded else profile_inputs.generated(source)
    file = cases.write(Case("inputs", inputs.arrays), workspace.jobs.folder("inputs"))
    machine, memory = _machine(), int(psutil.virtual_memory().available * _MEMORY_SHARE)
    cores = machine.cores
    sizes, notes = _sizes(request, source)
    keeps_state = source.served is not None and source.served.keeps_state
    if keeps_state:
        notes.append("only one instance is measured, because the model keeps state, and each instance has its own")
    sweep = Sweep(source, workspace, file, sizes, request.seconds, memory, on_progress)
    trace, finished = Trace(0, 0), False

    def recommended() -> Recommendation | None:
        return recommend(sweep.points, cores, machine.memory_bytes, request.latency_target_ms)

    try:
        await sweep.run(_configurations(request.threads or _threads(cores), cores, keeps_state))
        if chosen := recommended():
            on_progress("timing its operators")
            trace = await _trace(sweep, chosen.point)
        finished = True
    except asyncio.CancelledError:
        if not sweep.points:
            raise
    found = _profile(request, config, source, inputs, machine, sweep, trace)
    notes = [*filter(None, [_about_load(machine.load), inputs.note]), *notes, *sweep.notes]
    if not events.available():
        notes.append(f"there is no TensorBoard log, because the package tensorboardX is missing: {events.EXTRA}")
    return Result(replace(found, recommendation=recommended(), notes=notes, finished=finished), config)


def _find(request: ProfileRequest, environments: Environments) -> ModelConfig:
    known = environments.known
    if request.runtime:
        if request.runtime not in known:
            raise CannotExport(f"there is no runtime '{request.runtime}'; there are {', '.join(known)}")
        known = {request.runtime: known[request.runtime].named()}
    config = with_runtime(find(request.model, request.repository, request.version, known), environments.is_available)
    if config.artifact is not None and config.artifact.runtime.model_code:
        raise CannotExport(f"model '{config.name}' is a program, which cannot be profiled yet")
    if request.apply and config.folder is None:
        raise CannotExport("--apply needs a model in a repository, and this is an artifact's path")
    if all(device.startswith("cuda") for device in config.toml.device):
        raise CannotExport(
            f"model '{config.name}' is served on {', '.join(config.toml.device)}, and a profile measures on the CPU, "
            'whose figures say nothing about a card: set device = "cpu" to profile it there'
        )
    return config


def _recorded(request: ProfileRequest, config: ModelConfig) -> Path | None:
    """Return the file of recorded inputs; None to generate some."""
    if request.inputs == GENERATED:
        return None
    if request.inputs:
        return Path(request.inputs)
    file = request.repository / config.name / _SAMPLES
    return file if file.exists() and not is_path(request.model, request.repository) else None


def _sizes(request: ProfileRequest, source: Source) -> tuple[list[int], list[str]]:
    """Return the numbers of rows to measure, ascending, and notes about them; [0] if rows are not counted."""
    served = source.served
    assert served is not None
    if not served.rows:
        return [0], [f"only single requests are measured, because {served.note}"]
    if served.sizes:
        return sorted(served.sizes), ["only the sizes that batch_sizes in model.toml declares are measured"]
    return sorted(set(request.batch_sizes)), []


def _threads(cores: int) -> list[int]:
    return sorted({1 << power for power in range(cores.bit_length())} | {cores})


def _configurations(threads: Sequence[int], cores: int, keeps_state: bool) -> list[tuple[int, int]]:
    """Return pairs of threads and instances: one instance, and as many as there are cores for if they are alike."""
    chosen = sorted(set(threads))
    several = [] if keeps_state else [(each, cores // each) for each in chosen if cores // each > 1]
    return [*((each, 1) for each in chosen), *several]


async def _trace(sweep: Sweep, point: Point) -> Trace:
    """Return the trace of a batch of the recommended size, with the recommended number of threads."""
    answer = await sweep.trace(point.threads, point.rows)
    sweep.notes += answer["notes"]
    return Trace(
        point.rows,
        point.threads,
        [_node(*each) for each in answer["nodes"]],
        answer["operators"] and OperatorProfile.from_json(answer["operators"]),
    )


def _node(name: str, operator: str, inputs: Sequence[str], shape: Sequence[int] | None, facts: Any) -> GraphNode:
    return GraphNode(name, operator, tuple(inputs), None if shape is None else tuple(shape), dict(facts))


def _profile(
    request: ProfileRequest,
    config: ModelConfig,
    source: Source,
    inputs: Inputs,
    machine: Machine,
    sweep: Sweep,
    trace: Trace,
) -> Profile:
    assert config.artifact is not None
    assert source.served is not None
    return Profile(
        model=config.name,
        version=config.version,
        platform=config.artifact.platform,
        runtime=source.environment.runtime.title,
        signature=source.key,
        interface=source.signature,
        origin=inputs.origin,
        shapes={name: array.shape for name, array in inputs.arrays.items()},
        batching=source.served.note,
        load_seconds=sweep.load_seconds or 0.0,
        load_peak_bytes=sweep.load_peak_bytes,
        loaded_bytes=sweep.loaded_bytes,
        machine=machine,
        versions=source.environment.installed,
        modelport=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        latency_target_ms=request.latency_target_ms,
        points=sweep.points,
        trace=trace,
    )


def _machine() -> Machine:
    return Machine(
        f"{platform.system()} {platform.release()}",
        _processor(),
        available_cores(),
        psutil.virtual_memory().total,
        os.getloadavg()[0],
    )


def _about_load(load: float) -> str:
    if load < _BUSY:
        return ""
    return f"other programs used the machine (its load was {load:.1f}): the figures may be better when it is idle"


def _processor() -> str:
    """Return the processor's name as Linux gives it, or what the platform says."""
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
