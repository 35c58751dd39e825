"""What every dialect's codec turns bytes into, and back: the engine's own vocabulary."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.domain.image_processing import Postprocess, Preprocess
from gateway.errors import Unavailable
from runtimes.contract import Signature, TensorSpec
from runtimes.tensors import Tensor

Parameters = Mapping[str, str | int | float | bool]


class InferRequest(NamedTuple):
    """One request, whatever the protocol.

    version    "" for the model's newest ready version
    outputs    the wanted output names; empty for all that can be served
    signature  "" for the model's default one
    priority   lower goes first; 0 when the client says nothing: then it is the model's default level
    deadline   time.monotonic() seconds; None: the server's own limit
    """

    model: str
    inputs: Sequence[Tensor]
    version: str = ""
    id: str = ""
    outputs: Sequence[str] = ()
    signature: str = ""
    priority: int = 0
    deadline: float | None = None


class InferResponse(NamedTuple):
    """One answer to a request. final: no other answer to it follows."""

    model: str
    version: str
    outputs: Sequence[Tensor]
    id: str = ""
    final: bool = True


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One version of one model as the supervisor tells the fronts: what may be asked, and whether it can be.

    state       LOADING, READY, UNLOADING or UNAVAILABLE (the names of the v2 repository index)
    reason      one sentence when the state is not READY; else ""
    admits      whether requests are taken: READY, or its worker is being restarted and they wait for it
    signatures  what is enforced; the first is the default. Empty until the model has been loaded once
    learned     what the first request that worked showed, where the artifact told nothing: it informs
                metadata and JSON decoding, and never refuses a request
    max_batch_size  rows that the gateway puts together; 0 where batching is off
    was_batched  whether batching was on at first, or max_batch_size is declared: then the batch dimension counts rows
                 also where batching is off, and requests and answers have the same form
    latency_target_ms  from arrival to answer; what would take longer is refused. 0: no target
    priority_levels, default_priority_level  as Triton's; 0 levels: any number is one, and 1 is the default
    version_labels  other names of this version
    class_labels    by output, what the places in its last dimension stand for
    preprocess      how images become its input; None: it takes none
    postprocess     how its output becomes labels; None: it is told as it is
    """

    name: str
    version: str
    state: str
    reason: str = ""
    admits: bool = False
    platform: str = ""
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    learned: Signature | None = None
    max_batch_size: int = 0
    was_batched: bool = False
    batch_dim: int = 0
    stateful: bool = False
    latency_target_ms: float = 0.0
    priority_levels: int = 0
    default_priority_level: int = 1
    version_labels: Sequence[str] = ()
    class_labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    preprocess: Preprocess | None = None
    postprocess: Postprocess | None = None

    def signature(self, name: str = "") -> Signature | None:
        """The named signature, or the default one; None if there is none of that name."""
        if name:
            return self.signatures.get(name)
        return next(iter(self.signatures.values()), None)

    def priority_level(self, priority: int) -> int:
        """A request's level: as in Triton, 0 and what is above the declared levels are the default one."""
        if not priority or 0 < self.priority_levels < priority:
            return self.default_priority_level
        return priority

    @property
    def has_rows(self) -> bool:
        """Whether the dimension `batch_dim` counts rows, whether or not they run together."""
        return self.max_batch_size > 0 or self.was_batched

    @property
    def default_signature(self) -> str:
        return next(iter(self.signatures), "")


def unavailable(status: ModelStatus) -> Unavailable:
    """The error for what needs a model that is ready, or has been loaded once."""
    return Unavailable(f"model '{status.name}' is {status.state}: {status.reason or 'try again later'}")


def completed(specs: Iterable[TensorSpec], learned: Iterable[TensorSpec]) -> list[TensorSpec]:
    """The specs, with what they do not tell taken from what was learned."""
    seen = {spec.name: spec for spec in learned}
    told = []
    for spec in specs:
        shown = seen.get(spec.name, spec)
        told.append(
            TensorSpec(spec.name, spec.datatype or shown.datatype, shown.shape if spec.shape is None else spec.shape)
        )
    return told
