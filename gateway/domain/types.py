"""Requests, responses and model statuses, independent of protocols: codecs translate between them and bytes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from gateway.domain.image_processing import Postprocess, Preprocess
from gateway.domain.pipeline import Step
from gateway.domain.request_record import RequestRecord
from gateway.domain.table_schema import TableSchema
from gateway.errors import ModelportError, Unavailable, Unsupported, from_kind
from runtimes.contract import SequenceControl, Signature, TensorSpec
from runtimes.layouts import TensorLayout
from runtimes.tensor_bytes import Tensor

Parameters = Mapping[str, str | int | float | bool]
NO_PARAMETERS: Parameters = MappingProxyType({})


class InferRequest(NamedTuple):
    """A decoded inference request.

    version     "" for the model's newest ready version
    outputs     the names of the requested outputs; empty for all that can be served
    signature   "" for the model's default signature
    priority    lower values run first; 0 if the client sets none, which means the model's default level
    deadline    time.monotonic() seconds; None for the server's default timeout
    layout      of the inputs, with this `signature` and these `outputs`, if the codec knows it; see runtimes/layouts.py
    record      what is recorded of it; None if nobody observes it
    parameters  the client's own, as it sent them, without those that the protocol defines
    sequence    the sequence to which it belongs; None for none
    json        those of `outputs` that are in Signature.json, if the answer is JSON
    affinity    what keeps it at one version if it names none: the value of the model's sticky header; "" for nothing
    """

    model: str
    inputs: Sequence[Tensor]
    version: str = ""
    id: str = ""
    outputs: Sequence[str] = ()
    signature: str = ""
    priority: int = 0
    deadline: float | None = None
    layout: TensorLayout | None = None
    record: RequestRecord | None = None
    parameters: Parameters = NO_PARAMETERS
    sequence: SequenceControl | None = None
    affinity: str = ""
    json: Sequence[str] = ()


class InferResponse(NamedTuple):
    """One answer to a request. `final` is False if more answers follow."""

    model: str
    version: str
    outputs: Sequence[Tensor]
    id: str = ""
    final: bool = True


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of a model, as the supervisor describes it to the fronts.

    state           LOADING, READY, UNLOADING, UNLOADED or UNAVAILABLE, as in the v2 repository index
    reason          one sentence if the state is not READY; else ""
    error_kind      the kind of the error that requests get if they are not accepted; "" for Unavailable
    admits          whether requests are accepted: the version is READY, or they wait while its worker is restarted, or
                    until it has been loaded on demand
    signatures      name → signature, which requests must match; the first is the default. Empty until the model has
                    been loaded once
    learned         the signature that the first successful request revealed, if the artifact does not have it. It
                    completes metadata and helps to decode JSON, but requests need not match it
    max_batch_size  most rows that run together; 0 if batching is off
    was_batched     whether batching was on before, or max_batch_size is declared. If so, the batch dimension counts
                    rows even while batching is off, so that requests and answers keep their shapes
    decoupled       whether a request gets any number of answers, of which the last, without outputs, is final
    sequence        whether requests belong to sequences, whose requests run one after the other on one worker
    takes_context   whether its workers, or those of its steps, get the ids, parameters and sequences of requests
    instances       how many workers the version has when all of them are ready
    calls_models    whether the model may send requests to other models
    latency_target_ms  time from arrival to answer; requests that would take longer are rejected. 0 for no target
    priority_levels, default_priority_level  as in Triton; with 0 levels, any number is a level, and 1 is the default
    version_labels  other names of this version
    class_labels    output → labels of the indices in its last dimension
    preprocess      how images become its input; None if it does not accept images
    postprocess     how its output becomes labels; None if it is returned unchanged
    steps           the models that a pipeline runs, in any order; empty if the version has workers of its own
    fingerprint     of the files that were loaded; it changes when the version is loaded again
    response_cache  bytes of a response cache of its own; 0 for the one that models share; None if it has none
    table           how clients of MLflow's dialect write its tensors; None if MLflow has not saved it
    """

    name: str
    version: str
    state: str
    reason: str = ""
    error_kind: str = ""
    admits: bool = False
    platform: str = ""
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    learned: Signature | None = None
    max_batch_size: int = 0
    was_batched: bool = False
    batch_dim: int = 0
    stateful: bool = False
    decoupled: bool = False
    sequence: bool = False
    takes_context: bool = False
    instances: int = 1
    calls_models: bool = False
    latency_target_ms: float = 0.0
    priority_levels: int = 0
    default_priority_level: int = 1
    version_labels: Sequence[str] = ()
    class_labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preprocess: Preprocess | None = None
    postprocess: Postprocess | None = None
    steps: tuple[Step, ...] = ()
    fingerprint: str = ""
    response_cache: int | None = None
    table: TableSchema | None = None

    def signature(self, name: str = "") -> Signature | None:
        """Return the named signature, or the default one for ""; None if there is none."""
        if name:
            return self.signatures.get(name)
        return next(iter(self.signatures.values()), None)

    def priority_level(self, priority: int) -> int:
        """Return the level of a request's priority. As in Triton, 0 and undeclared levels mean the default level."""
        if not priority or 0 < self.priority_levels < priority:
            return self.default_priority_level
        return priority

    @property
    def awaits_load(self) -> bool:
        """Whether it accepts requests, but nobody can read them yet, because it has never been loaded."""
        return self.admits and not self.signatures and self.state != "READY"

    @property
    def is_plain(self) -> bool:
        """Whether the model is one function from tensors to tensors."""
        return self.is_function and not self.steps

    @property
    def is_function(self) -> bool:
        """Whether it maps tensors to tensors, perhaps in steps. Only requests for such models take fast paths."""
        return not (self.decoupled or self.calls_models or self.takes_context or self.sequence)

    @property
    def has_rows(self) -> bool:
        """Whether the dimension `batch_dim` counts rows, even if each request runs alone."""
        return self.max_batch_size > 0 or self.was_batched

    @property
    def default_signature(self) -> str:
        return next(iter(self.signatures), "")


def by_model(statuses: Iterable[ModelStatus]) -> dict[str, list[ModelStatus]]:
    """Return the versions of each model, the newest first."""
    found: dict[str, list[ModelStatus]] = {}
    for status in statuses:
        found.setdefault(status.name, []).append(status)
    return {name: newest_first(versions) for name, versions in found.items()}


def newest_first(versions: Iterable[ModelStatus]) -> list[ModelStatus]:
    return sorted(versions, key=lambda status: int(status.version or 0), reverse=True)


def select_version(versions: Sequence[ModelStatus], version: str) -> ModelStatus | None:
    """Return one of a model's versions, which are sorted from the newest, by number or label; None if it has none.

    "" is the newest version that admits requests; if none does, the newest.
    """
    if version:
        number = version.lstrip("0")
        return next((each for each in versions if each.version == number or version in each.version_labels), None)
    return next((status for status in versions if status.admits), versions[0] if versions else None)


def runs_sequences(status: ModelStatus, find: Callable[[str, str], ModelStatus | None]) -> bool:
    """Return whether requests belong to sequences: those of the model, or of a step of the pipeline.

    find  returns a model's version as `select_version` does; None if there is none
    """
    if not status.signatures:  # nobody can send requests yet; pipelines that run each other never come to have any
        return False
    steps = [find(step.model, step.version) for step in status.steps]
    return status.sequence or any(step is not None and runs_sequences(step, find) for step in steps)


class NotLoaded(Unavailable):
    """A request needs a version that has never been loaded, and is loaded on demand: see Engine.when_loaded."""

    def __init__(self, status: ModelStatus) -> None:
        super().__init__(_not_ready(status))
        self.model_status = status


def unavailable(status: ModelStatus) -> ModelportError:
    """Return the error for a request that needs a version which is not ready, or was never loaded."""
    if status.awaits_load:
        return NotLoaded(status)
    return from_kind(status.error_kind or Unavailable.kind, _not_ready(status))


def _not_ready(status: ModelStatus) -> str:
    return f"model '{status.name}' is {status.state}: {status.reason or 'try again later'}"


def unary_call(status: ModelStatus) -> Unsupported:
    """Return the error for a call that can have one answer only, to a decoupled model."""
    return Unsupported(
        f"model '{status.name}' is decoupled, and this endpoint doesn't support models with decoupled transaction "
        "policy; use ModelStreamInfer, generate_stream or generate"
    )


def complete_specs(specs: Iterable[TensorSpec], learned: Iterable[TensorSpec]) -> list[TensorSpec]:
    """Return the specs, with unknown datatypes and shapes filled in from the learned ones."""
    learned_by_name = {spec.name: spec for spec in learned}
    complete = []
    for spec in specs:
        other = learned_by_name.get(spec.name, spec)
        shape = other.shape if spec.shape is None else spec.shape
        complete.append(TensorSpec(spec.name, spec.datatype or other.datatype, shape))
    return complete
