"""What supervisor and worker say to each other, as records; their frames (wire.py) carry these as JSON.

Records within records are tuples, so JSON writes them as lists.
"""

from typing import Any, Dict, NamedTuple, Optional, Tuple

from runtimes.contract import Signature, TensorSpec
from runtimes.wire import signature_from_json, specs_from_json


class BatchingOff(NamedTuple):
    """That batching does not hold, for the other workers of a version. reason: a word for a metric; why: a sentence."""

    reason: str
    why: str


class BatchingOptions(NamedTuple):
    """What model.toml, and what is known already, say about batching.

    max_rows  None where model.toml does not say; 0: batching is off
    dim       the dimension that counts rows
    delay     seconds that a request may wait for others
    target    seconds from arrival to answer; 0: no target
    sizes     the only numbers of rows that the model takes; empty: any
    stateful  declared so: requests run one by one
    vouched   whether max_rows says that rows may run together. If not it only limits them, and the graph is heeded
    off       why another worker of this version has found that batching does not hold
    trial     whether the model may be run with invented inputs: not where a worker has died while loading
    """

    max_rows: Optional[int] = None
    dim: int = 0
    delay: float = 0.0
    target: float = 0.0
    sizes: Tuple[int, ...] = ()
    stateful: bool = False
    declares_batching: bool = True
    off: Optional[BatchingOff] = None
    trial: bool = True


class AuditOptions(NamedTuple):
    """share: of the model's time, for running batched requests again alone. always: model.toml asks for it."""

    share: float = 0.0
    always: bool = False


class Reshapes(NamedTuple):
    """By tensor, the whole shapes that clients see and that the model has."""

    inputs: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = {}
    outputs: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = {}


class Load(NamedTuple):
    """What a worker loads, and how. From the supervisor, once.

    runtime  the folder of its runtime.py
    inputs, outputs  as model.toml declares them
    device   cpu or cuda
    warmup   how often the model runs before it is ready
    max_response_bytes  the largest answer, as tensor bytes
    """

    runtime: str
    artifact: str
    inputs: Tuple[TensorSpec, ...] = ()
    outputs: Tuple[TensorSpec, ...] = ()
    reshape: Reshapes = Reshapes()
    device: str = "cpu"
    threads: int = 1
    parameters: Dict[str, Any] = {}
    batching: BatchingOptions = BatchingOptions()
    audit: AuditOptions = AuditOptions()
    warmup: int = 0
    max_response_bytes: int = 1 << 40

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, raw: Dict[str, Any]) -> "Load":
        load = cls(**raw)
        batching = BatchingOptions(*load.batching)
        off = batching.off and BatchingOff(*batching.off)
        return load._replace(
            inputs=specs_from_json(load.inputs),
            outputs=specs_from_json(load.outputs),
            reshape=Reshapes(*load.reshape),
            batching=batching._replace(sizes=tuple(batching.sizes), off=off),
            audit=AuditOptions(*load.audit),
        )


class Ready(NamedTuple):
    """What a worker has loaded. Sent again when one of these facts changes.

    max_batch_size  rows of the default signature that are put together; 0 where batching is off
    window          how many rows a front may have under way
    batching_off    a word for a metric: declared, state, shape, graph, trial, rows or audit; "" where it is on
    note            a sentence about batching, for the log and the model's configuration
    """

    signatures: Dict[str, Signature]
    max_batch_size: int
    window: int
    batching_off: str
    note: str

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, raw: Dict[str, Any]) -> "Ready":
        ready = cls(**raw)
        return ready._replace(
            signatures={name: signature_from_json(signature) for name, signature in ready.signatures.items()}
        )


class Failed(NamedTuple):
    """The model cannot be loaded, and trying again would not help."""

    reason: str


class Learned(NamedTuple):
    """What the first request that worked showed of a signature, where the artifact told nothing."""

    name: str
    signature: Signature

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, raw: Dict[str, Any]) -> "Learned":
        return cls(raw["name"], signature_from_json(raw["signature"]))
