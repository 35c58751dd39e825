"""The model that is exported: found as a gateway would find it, and what its own runtime says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.config import Settings
from gateway.domain import image_processing
from gateway.environments.environment import Environment, Locator, build
from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime, converters, discover
from gateway.export import cases
from gateway.export.cases import Case
from gateway.export.errors import CannotExport
from gateway.export.jobs import Jobs, RouteFailed
from gateway.lifecycle.launch import plan_launch
from gateway.repository.scan import ModelConfig, RepositoryError, scan
from runtimes import wire
from runtimes.contract import InputRange, Signature, TensorSpec, datatype_of
from runtimes.control import Load


class Environments:
    """Those of runtimes and converters, by name, built when they are asked for."""

    def __init__(self, home: Path, settings: Settings, told: Callable[[str], None]) -> None:
        external = {name: each.python for name, each in settings.runtimes.items() if each.python}
        self._locator = Locator(home, "cpu", external)
        self._told = told
        self.known: Mapping[str, Runtime] = {**discover(), **converters()}

    def sources(self) -> list[str]:
        """The platforms whose artifacts can be exported."""
        forms = [form for runtime in self.known.values() for form in runtime.formats if form.export_format]
        return list(dict.fromkeys(form.platform for form in forms))

    async def get(self, name: str) -> Environment:
        """Raises CannotExport."""
        try:
            found = self._locator.locate(self.known[name])
            if not found.ready:
                size = self.known[name].download_mb.get("cpu", 0)
                self._told(f"building the environment {name}, once: about {size:.0f} MB to download")
                await build(found, lambda line: self._told(f"  {name}: {line}"))
        except EnvironmentUnavailable as error:
            raise CannotExport(f"the environment {name} cannot be had: {error}", error.detail) from None
        return found

    def can(self, runtime: Runtime) -> bool:
        """Whether this machine can have it, built or not."""
        try:
            self._locator.check(runtime)
        except EnvironmentUnavailable:
            return False
        return True


@dataclass(frozen=True)
class Source:
    """A model, and how it is run.

    format     as routes.py calls it
    load       as its worker is told
    key        the signature's name
    signature  what is served: every datatype and shape known
    shapes     input → shape of a batch of one
    batches    whether the first dimension of all counts rows
    origins    input → who said which sizes it has where they are open; those that nobody said are not there
    ranges     input → the numbers that the artifact's graph gives a meaning to
    """

    config: ModelConfig
    format: str
    environment: Environment
    load: Load
    key: str
    signature: Signature
    shapes: Mapping[str, tuple[int, ...]]
    batches: bool
    origins: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, InputRange] = field(default_factory=dict)

    @property
    def pixels(self) -> tuple[float, float] | None:
        """What [preprocess] makes of black and white."""
        if self.config.toml.preprocess is None:
            return None
        levels = image_processing.values(self.config.toml.preprocess.resolve())
        return float(levels[:, 0].mean()), float(levels[:, -1].mean())

    @property
    def path(self) -> Path:
        assert self.config.artifact is not None
        return self.config.artifact.path


def find(model: str, repository: Path, version: str, runtimes: Mapping[str, Runtime]) -> ModelConfig:
    """By its name in the repository, or by an artifact's path. Raises CannotExport."""
    by_path = is_path(model, repository)
    try:
        found = scan((Path(model) if by_path else repository).absolute(), runtimes)
    except RepositoryError as error:
        raise CannotExport(str(error)) from None
    versions = found if by_path else [config for config in found if config.name == model]
    if by_path and len(versions) != 1:
        raise CannotExport(
            f"{model} holds {len(versions)} models: give one artifact's path, or --repository and a name"
        )
    if not versions:
        names = ", ".join(dict.fromkeys(config.name for config in found)) or "none"
        raise CannotExport(f"there is no model '{model}' in {repository}; there are {names}")
    chosen = [config for config in versions if version in ("", config.version)]
    if not chosen:
        told = ", ".join(config.version for config in versions)
        raise CannotExport(f"model '{model}' has no version '{version}' that is served; there are {told}")
    config = chosen[-1]
    if config.problem or config.artifact is None:
        raise CannotExport(f"model '{config.name}' cannot be served: {config.problem}")
    return config


def is_path(model: str, repository: Path) -> bool:
    """Whether it is an artifact's path, and not a name in the repository."""
    return Path(model).exists() and ("/" in model or not (repository / model).exists())


async def open_source(
    config: ModelConfig,
    key: str,
    shapes: Mapping[str, Sequence[int]],
    environments: Environments,
    jobs: Jobs,
    seen: Mapping[str, Mapping[str, Sequence[int]]],
) -> Source:
    """Loaded once in its own framework. Raises CannotExport.

    shapes  of inputs, as the user wants them
    seen    file → shapes of arrays in it that may be inputs, for those that are open
    """
    assert config.artifact is not None
    form = config.artifact.runtime.export_format(config.artifact.platform)
    if not form:
        known = ", ".join(environments.sources())
        raise CannotExport(f"{config.artifact.platform} is no format that can be exported; these are: {known}")
    if any(tensor.reshape is not None for tensor in (*config.toml.inputs, *config.toml.outputs)):
        raise CannotExport(f"model '{config.name}' is served through 'reshape', which an export would lack: remove it")
    environment = await environments.get(config.artifact.runtime.name)
    load = plan_launch(config, environment, "cpu", 1, 1 << 40).load
    likely = _likely(config, seen, shapes)
    sizes = {name: shape for each in likely.values() for name, shape in each.items()}
    try:
        told = await jobs.run(environment, cases_job(load, key, shapes=sizes))
    except RouteFailed as error:
        raise CannotExport(f"model '{config.name}' does not run: {error}", error.detail) from None
    signature = wire.signature_from_json(told["signatures"][told["signature"]])
    takes = [spec.name for spec in signature.inputs]
    if unknown := [name for name in shapes if name not in takes]:
        raise CannotExport(f"model '{config.name}' has no input '{unknown[0]}' to shape; it has {', '.join(takes)}")
    for name in shapes:
        if told["shapes"] and tuple(told["shapes"][name]) != tuple(shapes[name]):
            wanted = next(spec.shape for spec in signature.inputs if spec.name == name)
            raise CannotExport(f"--shape {name} is {list(shapes[name])}, and the model wants {list(wanted or ())}")
    if refused := told.get("refused"):
        advice = "give inputs that it takes with --check DATA.npz, or sizes of what is open with --shape NAME=SIZES"
        raise CannotExport(f"model '{config.name}' refuses invented inputs ({refused}): {advice}")
    _check_datatypes(signature)
    return Source(
        config,
        form,
        environment,
        load,
        told["signature"],
        signature,
        {name: tuple(shape) for name, shape in told["shapes"].items()},
        told["batchable"],
        _origins(likely, told["shapes"]),
        {name: InputRange(*each) for name, each in told["ranges"].items()},
    )


def _likely(
    config: ModelConfig, seen: Mapping[str, Mapping[str, Sequence[int]]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, Mapping[str, Sequence[int]]]:
    """Who says so → input → sizes; the last is the most certain. Input "": the only one that there is."""
    made = config.toml.preprocess
    pictures = {"from [preprocess]": {made.input: made.resolve().shape(1)}} if made else {}
    files = {f"as in {file}": shapes for file, shapes in seen.items()}
    return {**pictures, **files, "by --shape": shapes}


def _origins(likely: Mapping[str, Mapping[str, Sequence[int]]], taken: Mapping[str, Sequence[int]]) -> dict[str, str]:
    return {
        name: who
        for who, shapes in likely.items()
        for name, sizes in taken.items()
        if tuple(shapes.get(name, shapes.get("", ()) if len(taken) == 1 else ())) == tuple(sizes)
    }


def cases_job(
    load: Load,
    key: str = "",
    files: Sequence[Path] = (),
    results: Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    fixed: int = 0,
    timed: Path | None = None,
    fold: bool = False,
) -> dict[str, Any]:
    """As runtimes/offline.py wants it."""
    return {
        "action": "run_cases",
        "load": load.to_json(),
        "signature": key,
        "cases": [str(file) for file in files],
        "results": str(results),
        "shapes": dict(shapes or {}),
        "fold": fold,
        "fixed": fixed,
        "timed": str(timed) if timed else "",
    }


def convert_job(
    function: str,
    environment: Environment,
    source: Source,
    artifact: Path,
    destination: Path,
    options: Mapping[str, Any],
    example: Path | None = None,
    calibration: Sequence[Path] = (),
) -> dict[str, Any]:
    """As runtimes/conversion.py wants it. example: of one row, with no size open."""
    return {
        "action": "convert",
        "folder": str(environment.runtime.folder),
        "function": function,
        "source": str(artifact),
        "destination": str(destination),
        "inputs": source.signature.inputs,
        "outputs": source.signature.outputs,
        "signature": source.key,
        "shapes": {name: array.shape for name, array in cases.read(example).items()} if example else {},
        "examples": [str(example)] if example else [],
        "calibration": [str(file) for file in calibration],
        "options": dict(options),
        "parameters": source.load.parameters,
    }


def bare_load(runtime: Runtime, artifact: Path, threads: int, **parameters: Any) -> Load:
    """For an artifact of which no model.toml says anything."""
    return Load(str(runtime.folder), str(artifact), threads=threads, parameters=parameters)


def with_outputs(source: Source, answered: Sequence[tuple[Case, cases.Arrays]]) -> Source:
    """The outputs as the original's answers show them: some artifacts do not tell their shapes, or their number."""
    first = answered[0][1]
    known = {spec.name: spec for spec in source.signature.outputs}
    names = list(known) or list(first)
    specs = []
    for name in names:
        seen = [outputs[name].shape for _, outputs in answered]
        rank = len(seen[0])
        told = known[name].shape if name in known else None
        shape = told if told is not None and len(told) == rank else _open_where_different(seen, source.batches)
        specs.append(TensorSpec(name, datatype_of(first[name].dtype), shape))
    return replace(source, signature=source.signature._replace(outputs=tuple(specs)))


def _open_where_different(seen: Sequence[tuple[int, ...]], batches: bool) -> tuple[int, ...]:
    sizes = [set(each) for each in zip(*seen, strict=True)]
    return tuple(-1 if len(each) > 1 or (batches and not axis) else each.pop() for axis, each in enumerate(sizes))


def _check_datatypes(signature: Signature) -> None:
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.datatype == "BYTES":
                raise CannotExport(f"{kind} '{spec.name}' is of strings, which no target of an export can express")
