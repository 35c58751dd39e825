"""model.toml. All keys are optional; an unknown key or an invalid value is an error that names what is allowed."""

import json
import re
import tomllib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gateway.config import explain
from gateway.domain.byte_sizes import read_bytes
from gateway.domain.pipeline import Condition, Step
from gateway.repository.image_config import PostprocessToml, PreprocessToml
from gateway.repository.sequence_config import SequenceToml
from gateway.repository.traffic_config import TrafficToml
from runtimes.contract import DATATYPES, TensorSpec


class ModelConfigError(Exception):
    """The message is one sentence that names the file, the key and what is allowed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeclaredTensor(_Strict):
    """An input or output as the user declares it. Values that are left out come from the artifact.

    shape    the shape that clients see; -1 is any size
    reshape  the model's own shape, if it differs from `shape`. Both include the batch dimension
    format   only reported to clients that request the configuration
    optional whether requests may leave the input out, for a Python model in Triton's form
    """

    name: str = Field(min_length=1)
    datatype: str = ""
    shape: tuple[int, ...] | None = None
    reshape: tuple[int, ...] | None = None
    format: Literal["", "NHWC", "NCHW"] = ""
    optional: bool = False

    @field_validator("datatype")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in DATATYPES:
            raise ValueError(f"it must be one of {', '.join(DATATYPES)}")
        return value

    @field_validator("shape", "reshape")
    @classmethod
    def _sizes(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and any(size < -1 or size == 0 for size in value):
            raise ValueError("every size must be positive, or -1 for any")
        return value

    @field_validator("reshape")
    @classmethod
    def _as_large(cls, value: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        shape = info.data.get("shape")
        if value is not None and (shape is None or _extent(value) != _extent(shape)):
            raise ValueError("it needs a shape with the same number of elements and of -1")
        return value

    def spec(self) -> TensorSpec:
        """Return the tensor as the runtime sees it."""
        return TensorSpec(self.name, self.datatype, self.shape if self.reshape is None else self.reshape)


def _extent(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the number of elements that the fixed sizes make, and the number of free sizes."""
    return prod(size for size in shape if size != -1), shape.count(-1)


class VersionPolicy(_Strict):
    """Which versions are served: `latest = N`, `all = true` or `specific = [1, 3]`."""

    latest: int | None = Field(None, ge=1)
    all: bool = False
    specific: tuple[int, ...] = ()

    def choose(self, versions: list[int]) -> list[int]:
        """Return those of the versions that are served, in ascending order."""
        if self.all:
            return sorted(versions)
        if self.specific:
            return sorted(set(versions) & set(self.specific))
        return sorted(versions)[-(self.latest or 1) :]


class SandboxToml(_Strict):
    """Exceptions from the worker's box, which the operator must allow (`allow_sandbox_exceptions`).

    enabled  False: no box
    network  whether the model may use the network
    read     files and folders that the model may read, besides its own
    """

    enabled: bool = True
    network: bool = False
    read: tuple[str, ...] = ()

    @field_validator("read")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(path.startswith("/") for path in value):
            raise ValueError('every path must be absolute, such as "/data/lookup"')
        return value


_TensorName = Annotated[str, Field(min_length=1)]


class StepToml(_Strict):
    """A step of a pipeline: see Step. `inputs` and `outputs` map the model's own names to the pipeline's."""

    model: str = Field(min_length=1)
    version: str = ""
    inputs: Mapping[_TensorName, _TensorName] = Field(default_factory=dict)
    outputs: Mapping[_TensorName, _TensorName] = Field(default_factory=dict)
    when: str = Field("", pattern=r"^(|\S(.*\S)?)$")

    @field_validator("version", mode="before")
    @classmethod
    def _number_or_label(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return str(value)
        if not isinstance(value, str):
            raise ValueError("it must be a version's number or label; without it, the newest ready version is used")
        return value.lstrip("0") if value.isdigit() else value

    def resolve(self) -> Step:
        when = Condition.parse(self.when) if self.when else None
        return Step(self.model, self.version, dict(self.inputs), dict(self.outputs), when)


# What a pipeline may set. Everything else concerns workers, which only its steps' models have.
PIPELINE_KEYS = frozenset(
    {
        "steps", "inputs", "outputs", "max_batch_size", "labels", "version_policy", "version_labels", "preprocess",
        "postprocess", "priority_levels", "default_priority_level", "traffic",
    }
)  # fmt: skip


class ModelToml(_Strict):
    """The keys of model.toml. Values of absent keys come from the artifact, or are the defaults here.

    config.pbtxt files are translated into this class.
    """

    artifact: str = ""
    runtime: str = ""
    python: str = Field("", pattern=r"^(3\.\d{1,2})?$")
    extras: tuple[str, ...] = ()
    inputs: tuple[DeclaredTensor, ...] = ()
    outputs: tuple[DeclaredTensor, ...] = ()
    decoupled: bool = False
    max_batch_size: int | None = Field(None, ge=0, le=65536)
    batch_dim: int = Field(0, ge=0, le=8)
    batch_sizes: tuple[int, ...] = ()
    queue_delay_ms: float = Field(0.0, ge=0, le=60_000)
    latency_target_ms: float = Field(0.0, ge=0, le=3_600_000)
    instances: int = Field(1, ge=1, le=64)
    device: tuple[str, ...] = ("cpu",)
    audit_share: float | None = Field(None, ge=0, le=1)
    stateful: bool = False
    sequence: SequenceToml | None = None
    priority_levels: int = Field(0, ge=0, lt=1 << 31)
    default_priority_level: int = Field(1, ge=1, lt=1 << 31)
    version_policy: VersionPolicy = VersionPolicy()
    version_labels: Mapping[str, int] = Field(default_factory=dict)
    labels: Mapping[str, str] = Field(default_factory=dict)
    preprocess: PreprocessToml | None = None
    postprocess: PostprocessToml | None = None
    warmup: int | None = Field(None, ge=0, le=1000)
    execution_timeout_s: float = Field(60.0, gt=0)
    load_timeout_s: float = Field(600.0, gt=0)
    threads: int | None = Field(None, ge=1, le=1024)
    memory_limit: int = Field(0, ge=0)  # bytes of one worker; 0: none
    load: Literal["always", "on_demand"] | None = None
    pinned: bool = False
    sandbox: SandboxToml = SandboxToml()
    traffic: TrafficToml | None = None
    response_cache: bool | int = False  # bytes; True: the cache that models share
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    steps: tuple[StepToml, ...] = Field((), max_length=256)
    _limits_batch_only: bool = PrivateAttr(False)

    def with_defaults(self, **defaults: Any) -> "ModelToml":
        """Return a copy in which keys that are not set have these values. They still count as not set."""
        absent = {key: value for key, value in defaults.items() if key not in self.model_fields_set}
        return ModelToml.model_construct(self.model_fields_set, **{**dict(self), **absent})

    def without_batching_declared(self) -> "ModelToml":
        """Return a copy whose `max_batch_size` limits batches but does not declare that batching is safe."""
        copy = self.model_copy()
        copy._limits_batch_only = True
        return copy

    @property
    def declares_batching(self) -> bool:
        """Whether `max_batch_size`, if set, declares that rows may run together."""
        return not self._limits_batch_only

    @field_validator("device", mode="before")
    @classmethod
    def _devices(cls, value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(r"cpu|auto|cuda(:\d{1,4})?", value):
            return (value,)
        if not isinstance(value, list):
            raise ValueError(
                'it must be "cpu", "cuda", "cuda:N", "auto" or a list of cards, such as ["cuda:0", "cuda:1"]'
            )
        cards = [card for card in value if isinstance(card, str) and re.fullmatch(r"cuda:(0|[1-9]\d{0,3})", card)]
        if not cards or len(cards) < len(value) or len(set(cards)) < len(cards):
            raise ValueError('a list must name cards, each once, such as ["cuda:0", "cuda:1"]')
        return tuple(cards)

    @field_validator("response_cache", mode="before")
    @classmethod
    def _cache_bytes(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return value
        try:
            size = cls._bytes(value)
        except ValueError:
            size = 0
        if size < 1:
            raise ValueError('it must be true, false, a number of bytes of at least 1, or text such as "64MiB"')
        return size

    @field_validator("memory_limit", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        return read_bytes(value)

    @model_validator(mode="after")
    def _pipeline(self) -> "ModelToml":
        if not self.steps:
            return self
        others = sorted(self.model_fields_set - PIPELINE_KEYS)
        if others:
            raise ValueError(f"a pipeline has no {', '.join(others)}; set that in the models of its steps")
        if any(tensor.reshape is not None for tensor in (*self.inputs, *self.outputs)):
            raise ValueError("a pipeline cannot reshape its tensors; the models of its steps can")
        return self

    @property
    def workers(self) -> int:
        """The number of the model's worker processes: `instances` on each of its devices."""
        return self.instances * len(self.device)

    @field_validator("version_labels")
    @classmethod
    def _words(cls, value: Mapping[str, int]) -> Mapping[str, int]:
        for label, version in value.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", label) or version < 1:
                raise ValueError("a label must be a word that begins with a letter, and must name a version")
        return value

    @field_validator("parameters")
    @classmethod
    def _plain(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("its values must be strings, finite numbers, booleans, lists or tables") from None
        return value

    @field_validator("batch_sizes")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in value):
            raise ValueError("every batch size must be positive")
        return value


def read_model_toml(file: Path) -> ModelToml:
    """Read a model.toml; the result has defaults only if there is no file. Raises ModelConfigError."""
    name = f"{file.parent.name}/{file.name}"
    try:
        return ModelToml.model_validate(tomllib.loads(file.read_text("utf-8-sig")))
    except FileNotFoundError:
        return ModelToml()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelConfigError(f"{name} is not TOML: {error}") from None
    except OSError as error:
        raise ModelConfigError(f"{name} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ModelConfigError(explain(error, lambda _: name, ModelToml)) from None
