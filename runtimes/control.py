"""The messages between supervisor and worker, as records. Their frames (wire.py) carry them as JSON.

JSON writes a record as an object, and a record inside a record as a list, since NamedTuples are tuples.
"""

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import Signature, TensorSpec
from runtimes.wire import json_object, signature_from_json, specs_from_json


class BatchingOff(NamedTuple):
    """Sent to the other workers of a version when batching turns out to be unsafe.

    reason: label of the metric, as in Ready.batching_off. why: a sentence.
    """

    reason: str
    why: str


class BatchingOptions(NamedTuple):
    """How model.toml configures batching, and what other workers have found out.

    max_rows           None if model.toml does not set it; 0: batching is off
    dim                the dimension that counts rows
    delay              seconds that a request may wait for others
    target             seconds from arrival to response; 0: no target
    sizes              the only numbers of rows that the model accepts; empty: any
    stateful           whether model.toml declares the model stateful, so that requests run one by one
    declares_batching  whether max_rows states that rows may run together. If not, it is only a limit, and the graph can
                       switch batching off
    off                why another worker of this version has switched batching off
    trial              whether the model may run on synthetic inputs; False after a worker died while loading
    proven             signatures that other workers of this version have tried on this device, and found to be safe
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
    proven: Tuple[str, ...] = ()


class AuditOptions(NamedTuple):
    """share: the share of the model's time that audits may use. always: whether model.toml sets it itself."""

    share: float = 0.0
    always: bool = False


class Reshapes(NamedTuple):
    """By tensor, two complete shapes: the one that clients see, and the one that the model has."""

    inputs: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = {}
    outputs: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = {}


class ControlTensor(NamedTuple):
    """An input that the worker makes for a model of sequences; clients do not send it.

    kind      "START", "READY" or "END", which are flags, or "CORRID", which is the sequence's id
    input     its name
    datatype  of a flag: BOOL, INT32 or FP32; of an id: UINT64, INT64, UINT32, INT32 or BYTES
    off, on   the values of a flag
    """

    kind: str
    input: str
    datatype: str
    off: float = 0
    on: float = 1


class SequenceState(NamedTuple):
    """A tensor that the worker keeps for each sequence: it feeds an output of one request into the next one's input.

    shape    of one sequence's state, without the batch dimension; -1 is any size
    dim      the dimension along which the states of several sequences are joined
    initial  complete shape of a new sequence's state, without the batch dimension
    file     path of the initial bytes; "": zeros, or empty strings
    """

    input: str
    output: str
    datatype: str
    shape: Tuple[int, ...]
    initial: Tuple[int, ...]
    dim: int = 0
    file: str = ""


class SequenceOptions(NamedTuple):
    """How a model's requests form sequences.

    strategy       "direct": each sequence has a row of the batch of its own until it ends; "oldest": batches are formed
                   of the oldest request of each of several sequences
    idle_timeout   seconds without a request after which a sequence ends
    max_sequences  how many sequences one instance runs at once; 0: as many as a batch has rows for "direct", 1024 for
                   "oldest". Others wait for their turn
    delay          seconds that a request may wait for requests of other sequences
    """

    strategy: str = "direct"
    idle_timeout: float = 1.0
    max_sequences: int = 0
    delay: float = 0.0
    controls: Tuple[ControlTensor, ...] = ()
    states: Tuple[SequenceState, ...] = ()

    @classmethod
    def from_json(cls, raw: Sequence[Any]) -> "SequenceOptions":
        options = cls(*raw)
        states = [SequenceState(*each) for each in options.states]
        return options._replace(
            controls=tuple(ControlTensor(*each) for each in options.controls),
            states=tuple(each._replace(shape=tuple(each.shape), initial=tuple(each.initial)) for each in states),
        )


class Load(NamedTuple):
    """What a worker loads, and how. The supervisor sends it once.

    runtime             the folder of runtime.py
    name, version       of the model
    inputs, outputs     as model.toml declares them
    device              cpu or cuda
    warmup              how many times the model runs before it is ready
    max_response_bytes  limit for the bytes of a response's tensors
    max_body_bytes      limit for the bytes of the tensors of a request to another model
    memory_limit        limit for the bytes of memory that the worker may use; 0: none that the worker sets itself
    sequence            None: requests are independent of each other
    optional            the names of inputs that are declared optional
    decoupled           whether it is declared that a request gets any number of answers
    allow_code          whether the model may run code that its files bring
    """

    runtime: str
    artifact: str
    name: str = ""
    version: str = ""
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
    max_body_bytes: int = 1 << 40
    memory_limit: int = 0
    sequence: Optional[SequenceOptions] = None
    optional: Tuple[str, ...] = ()
    decoupled: bool = False
    allow_code: bool = False

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
            optional=tuple(load.optional),
            reshape=Reshapes(*load.reshape),
            batching=batching._replace(sizes=tuple(batching.sizes), off=off, proven=tuple(batching.proven)),
            audit=AuditOptions(*load.audit),
            sequence=None if load.sequence is None else SequenceOptions.from_json(load.sequence),
        )


class Ready(NamedTuple):
    """What a worker has loaded. It is sent again when one of these facts changes.

    max_batch_size  maximum rows of a batch of the default signature; 0 if batching is off
    window          how many rows a front may have in progress
    batching_off    label of the metric: declared, state, decoupled, shape, graph, trial, rows or audit; "" if it is on
    note            a sentence about batching, for the log and the model's configuration
    decoupled       whether a request gets any number of answers
    takes_context   whether the worker wants the ids, parameters and sequences of requests (runtimes/context.py)
    calls_models    whether the model may send requests to other models
    varies          why the same inputs may get another answer the next time, as far as the graph shows it; "" if not
    batched         the signatures that are batched
    execution       what runs the model, in words; "" if that is obvious
    """

    signatures: Dict[str, Signature]
    max_batch_size: int
    window: int
    batching_off: str
    note: str
    decoupled: bool = False
    takes_context: bool = False
    calls_models: bool = False
    varies: str = ""
    batched: Tuple[str, ...] = ()
    execution: str = ""

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, raw: Dict[str, Any]) -> "Ready":
        ready = cls(**raw)
        return ready._replace(
            signatures={
                name: signature_from_json(signature) for name, signature in json_object(ready.signatures).items()
            },
            batched=tuple(ready.batched),
        )


class Failed(NamedTuple):
    """The model cannot be loaded, and retrying would not help."""

    reason: str


class Learned(NamedTuple):
    """What the first successful request revealed about a signature that the artifact does not declare completely."""

    name: str
    signature: Signature

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, raw: Dict[str, Any]) -> "Learned":
        return cls(raw["name"], signature_from_json(raw["signature"]))
