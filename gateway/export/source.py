"""The model to export: found as a gateway finds it, described by its own runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gateway.domain import image_processing
from gateway.environments.environment import Environment
from gateway.environments.runtime import Runtime
from gateway.export import cases
from gateway.export.cases import Case
from gateway.export.errors import CannotExport
from gateway.export.jobs import CasesJob, RouteFailed
from gateway.export.workspace import Workspace
from gateway.lifecycle.launch import plan_launch
from gateway.repository.errors import RepositoryError
from gateway.repository.model_config import ModelConfig
from gateway.repository.scan import scan
from runtimes import wire
from runtimes.contract import InputRange, Signature, TensorSpec, datatype_of
from runtimes.control import Load

Shapes = Mapping[str, Sequence[int]]


class ServedBatches(NamedTuple):
    """How a worker batches requests for a signature.

    rows   at most this many at once; 0 if requests run one by one
    sizes  the only numbers of rows that the model accepts; empty: any
    dim    the dimension that counts rows
    note   a sentence about the decision
    keeps_state  whether answers depend on earlier requests, which must all reach the same instance
    """

    rows: int
    sizes: Sequence[int]
    dim: int
    note: str
    keeps_state: bool = False


@dataclass(frozen=True)
class Source:
    """A model, and how to run it.

    format     as in routes.py; "" if nothing exports models of its platform
    load       what its worker would get
    key        the signature's name
    signature  what is served, with every datatype and shape known
    shapes     input → shape of a batch of one
    batches    whether the first dimension of all inputs counts rows
    origins    input → where its dynamic sizes come from, for inputs whose sizes modelport did not make up
    ranges     input → the numbers that are meaningful to the artifact's graph
    refused    why the model refuses generated inputs, in which case there are no shapes; "" if it does not
    served     how a worker batches its requests; None if that was not asked for
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
    refused: str = ""
    served: ServedBatches | None = None

    def check_shapes(self, real_inputs: str) -> None:
        """Raise CannotExport if the model refuses generated inputs. real_inputs: how the user provides others."""
        if self.refused:
            advice = f"provide real ones with {real_inputs}, or dynamic sizes with --shape NAME=SIZES"
            raise CannotExport(f"model '{self.config.name}' refuses generated inputs ({self.refused}): {advice}")

    @property
    def pixels(self) -> tuple[float, float] | None:
        return pixels(self.config)

    @property
    def path(self) -> Path:
        assert self.config.artifact is not None
        return self.config.artifact.path


def pixels(config: ModelConfig) -> tuple[float, float] | None:
    """Return the values of black and white after [preprocess]; None without it."""
    if config.toml.preprocess is None:
        return None
    levels = image_processing.values(config.toml.preprocess.resolve())
    return float(levels[:, 0].mean()), float(levels[:, -1].mean())


def find(model: str, repository: Path, version: str, runtimes: Mapping[str, Runtime]) -> ModelConfig:
    """Find a model with an artifact by its name in the repository, or by the artifact's path. Raises CannotExport."""
    config = choose(model, repository, version, found_at(model, repository, runtimes))
    if config.steps:
        names = ", ".join(dict.fromkeys(step.model for step in config.steps))
        raise CannotExport(
            f"model '{config.name}' is a pipeline, which has no artifact of its own: name one of its steps, {names}"
        )
    if config.problem or config.artifact is None:
        raise CannotExport(f"model '{config.name}' cannot be served: {config.problem}")
    return config


def found_at(model: str, repository: Path, runtimes: Mapping[str, Runtime]) -> list[ModelConfig]:
    """Return the model at this path, or all models of the repository. Raises CannotExport."""
    by_path = is_path(model, repository)
    try:
        found = scan((Path(model) if by_path else repository).absolute(), runtimes)
    except RepositoryError as error:
        raise CannotExport(str(error)) from None
    if by_path and len(found) != 1:
        raise CannotExport(
            f"{model} contains {len(found)} models: give one artifact's path, or --repository and a name"
        )
    return list(found)


def choose(model: str, repository: Path, version: str, found: Sequence[ModelConfig]) -> ModelConfig:
    """Return a version of a model: the newest if `version` is "". Raises CannotExport."""
    versions = found if is_path(model, repository) else [config for config in found if config.name == model]
    if not versions:
        names = ", ".join(dict.fromkeys(config.name for config in found)) or "none"
        raise CannotExport(f"there is no model '{model}' in {repository}; there are {names}")
    chosen = [config for config in versions if version in ("", config.version)]
    if not chosen:
        served = ", ".join(config.version for config in versions)
        raise CannotExport(f"model '{model}' has no version '{version}' that is served; there are {served}")
    return chosen[-1]


def is_path(model: str, repository: Path) -> bool:
    """Whether `model` is an artifact's path rather than a name in the repository."""
    return Path(model).exists() and ("/" in model or not (repository / model).exists())


async def open_source(
    config: ModelConfig, key: str, requested: Shapes, workspace: Workspace, recorded: Mapping[str, Shapes]
) -> Source:
    """Describe a model that is to be exported: see `describe`. Raises CannotExport."""
    check_config(config, workspace.environments.exportable_platforms())
    source = await describe(config, key, requested, workspace, recorded)
    source.check_shapes("--check DATA.npz")
    _check_datatypes(source.signature)
    return source


def check_config(config: ModelConfig, platforms: Sequence[str]) -> None:
    """Raise CannotExport if the model's files show that it cannot be exported.

    platforms  those whose models can be exported, for the message; empty: do not list them
    """
    assert config.artifact is not None
    if not config.artifact.runtime.export_format(config.artifact.platform):
        known = f"; those of these platforms can: {', '.join(platforms)}" if platforms else ""
        raise CannotExport(f"models of {config.artifact.platform} cannot be exported{known}")
    if any(tensor.reshape is not None for tensor in (*config.toml.inputs, *config.toml.outputs)):
        raise CannotExport(f"model '{config.name}' is served through 'reshape', which an export would lack: remove it")


async def describe(
    config: ModelConfig,
    key: str,
    requested: Shapes,
    workspace: Workspace,
    recorded: Mapping[str, Shapes],
    decide: bool = False,
    allow_code: bool = False,
) -> Source:
    """Load the model once in its own framework, and describe it. Raises CannotExport.

    requested  input → shape that the user gave
    recorded   file → shapes of its arrays, for inputs with dynamic sizes
    decide     whether to find out how a worker would batch requests
    allow_code whether the model may run code that its files bring
    """
    assert config.artifact is not None
    environment = await workspace.environments.of(config.artifact.runtime)
    load = plan_launch(config, environment, "cpu", 1, 1 << 40, allow_code=allow_code).load
    candidates = _candidate_shapes(config, recorded, requested)
    shapes = {name: shape for each in candidates.values() for name, shape in each.items()}
    try:
        job = CasesJob(load, key, shapes=shapes, decide=decide)
        described = await workspace.jobs.run(environment, job.to_json())
    except RouteFailed as error:
        raise CannotExport(f"model '{config.name}' does not run: {error}", error.detail) from None
    signature = wire.signature_from_json(described["signatures"][described["signature"]])
    _check_requested(config.name, requested, signature, described["shapes"])
    return Source(
        config=config,
        format=config.artifact.runtime.export_format(config.artifact.platform),
        environment=environment,
        load=load,
        key=described["signature"],
        signature=signature,
        shapes={name: tuple(shape) for name, shape in described["shapes"].items()},
        batches=described["batchable"],
        origins=_origins(candidates, described["shapes"]),
        ranges={name: InputRange(*each) for name, each in described["ranges"].items()},
        refused=described.get("refused", ""),
        served=ServedBatches(**described["batching"]) if decide else None,
    )


def _check_requested(model: str, requested: Shapes, signature: Signature, accepted: Shapes) -> None:
    declared = {spec.name: spec.shape for spec in signature.inputs}
    if unknown := [name for name in requested if name not in declared]:
        raise CannotExport(f"model '{model}' has no input '{unknown[0]}' for --shape; it has {', '.join(declared)}")
    for name, shape in requested.items():
        if accepted and tuple(accepted[name]) != tuple(shape):
            raise CannotExport(f"--shape {name} is {list(shape)}, but the model expects {list(declared[name] or ())}")


def _candidate_shapes(config: ModelConfig, recorded: Mapping[str, Shapes], requested: Shapes) -> dict[str, Shapes]:
    """Return origin → input → shape, the most certain origin last. The input "" is the only one of a model."""
    preprocess = config.toml.preprocess
    images = {"from [preprocess]": {preprocess.input: preprocess.resolve().shape(1)}} if preprocess else {}
    files = {f"as in {file}": shapes for file, shapes in recorded.items()}
    return {**images, **files, "by --shape": requested}


def _origins(candidates: Mapping[str, Shapes], accepted: Shapes) -> dict[str, str]:
    return {
        name: origin
        for origin, shapes in candidates.items()
        for name, sizes in accepted.items()
        if tuple(shapes.get(name, shapes.get("", ()) if len(accepted) == 1 else ())) == tuple(sizes)
    }


def with_observed_outputs(source: Source, answered: Sequence[tuple[Case, cases.Arrays]]) -> Source:
    """Complete the outputs from the original's answers, since some artifacts declare neither their shapes nor names."""
    first = answered[0][1]
    declared = {spec.name: spec for spec in source.signature.outputs}
    specs = []
    for name in list(declared) or list(first):
        observed = [outputs[name].shape for _, outputs in answered]
        shape = declared[name].shape if name in declared else None
        if shape is None or len(shape) != len(observed[0]):
            shape = _common_shape(observed, source.batches)
        specs.append(TensorSpec(name, datatype_of(first[name].dtype), shape))
    return replace(source, signature=source.signature._replace(outputs=tuple(specs)))


def _common_shape(observed: Sequence[tuple[int, ...]], batches: bool) -> tuple[int, ...]:
    """Return the shape with -1 for sizes that differ, and for the batch."""
    sizes = [set(each) for each in zip(*observed, strict=True)]
    return tuple(-1 if len(each) > 1 or (batches and not axis) else each.pop() for axis, each in enumerate(sizes))


def _check_datatypes(signature: Signature) -> None:
    if signature.json and not signature.outputs:
        name = signature.json[0]
        raise CannotExport(f"none of its outputs is a tensor: '{name}' cannot be exported; {signature.refused[name]}")
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if spec.datatype == "BYTES":
                raise CannotExport(f"{kind} '{spec.name}' holds strings, which no export target supports")
