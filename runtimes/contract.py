"""The interface of a runtime: the only file that the author of one needs to read.

A runtime is a folder with two files. `runtime.toml` declares which Python versions it runs on, which packages it needs
and which artifacts it reads; reading it imports nothing. `runtime.py` runs inside a worker, in an environment that has
those packages, and defines one function:

    def load(options: LoadOptions) -> Model

It may define three others, for workers that are copies of a process that has imported runtime.py. The first is called
once in that process, to do what each load would do again: it must leave no threads and no open files. The second is
called in each copy before `load`, with a random seed, for frameworks whose random numbers would be the same in each.
The third writes a tiny artifact into a folder and returns its path; a copy that is made in advance loads and runs it
before it gets its model, which must leave no threads either:

    def before_forks() -> None
    def after_fork(seed: int) -> None
    def rehearsal(folder: str) -> str

A worker has one model, in one process, on one thread. It calls `load` once, then `infer` for every batch, and `close`
at the end. Whatever the runtime prints goes to the gateway's log, with the model's name.
"""

from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from runtimes.datatypes import DATATYPES as DATATYPES
from runtimes.datatypes import NARROW_RANGES as NARROW_RANGES
from runtimes.datatypes import Datatype as Datatype
from runtimes.datatypes import datatype_of as datatype_of
from runtimes.datatypes import has_dtype as has_dtype
from runtimes.datatypes import kind_of as kind_of
from runtimes.datatypes import numpy_dtype as numpy_dtype

if TYPE_CHECKING:
    import numpy as np  # imported when it is needed, because the gateway's supervisor never needs it


class TensorSpec(NamedTuple):
    """An input or output. In `shape`, -1 stands for any size; None means that not even the rank is known."""

    name: str
    datatype: str = ""
    shape: Optional[Tuple[int, ...]] = None


class Signature(NamedTuple):
    """The inputs and outputs of one entry point of a model.

    `refused` maps outputs that exist but cannot be served to the reason, in words. Requesting one is the client's
    error. A request that names no outputs gets all others. `optional` names the inputs that a request may leave out.

    `needs` is for models whose outputs depend on different inputs, such as a classifier that was saved with its loss:
    output → the inputs that it depends on. A request that names outputs needs the inputs of these; one that names none
    needs those that are not optional, and gets the outputs that can be computed from what it has.

    `unbatched` are further optional inputs, which have no rows: for example, constants of the graph that a request may
    replace. A request that gives one runs alone. The model runs without them when it is tried and warmed up.

    `json` names those of `refused` whose values are lists and objects. Only an answer in JSON can have them (POST
    /predict): `infer` returns a BYTES array of one dimension, whose elements are the JSON texts of a list's elements,
    or one without dimensions for any other value. A request for one runs alone.
    """

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    refused: Dict[str, str] = {}
    optional: Tuple[str, ...] = ()
    needs: Dict[str, Tuple[str, ...]] = {}
    unbatched: Tuple[TensorSpec, ...] = ()
    json: Tuple[str, ...] = ()

    def only_input(self) -> Optional[TensorSpec]:
        """Return the only input, or the only one that is not optional; None if there are several or none."""
        if len(self.inputs) == 1:
            return self.inputs[0]
        needed = self.needed_for()
        return next((spec for spec in self.inputs if [spec.name] == needed), None)

    def needed_for(self, outputs: Sequence[str] = ()) -> List[str]:
        """Return the inputs that a request for these outputs must have, or one that names none."""
        optional = set(self.optional)
        needed = [spec.name for spec in self.inputs if spec.name not in optional]
        if not outputs or not self.needs:
            return needed
        found = {name for output in outputs for name in self.needs.get(output, needed)}
        return [spec.name for spec in self.inputs if spec.name in found]

    def outputs_from(self, given: Iterable[str], as_json: bool = False) -> List[str]:
        """Return the outputs that a request gets that names none and has the inputs `given`.

        as_json: whether the answer can have those of `json`
        """
        names = [spec.name for spec in self.outputs if spec.name not in self.refused] + list(self.json) * as_json
        given = set(given)
        return [name for name in names if set(self.needs.get(name, ())) <= given] if self.needs else names


class LoadOptions(NamedTuple):
    """The argument of `load`.

    artifact    the file or folder that matched a format of runtime.toml
    inputs      declared in model.toml; they refine what the artifact says and must not contradict it (`checks.py`).
                Empty: not declared
    outputs     likewise
    device      "cpu" or "cuda". The worker sees only the GPU that was assigned to it
    threads     the number of threads that one inference may use, >= 1
    parameters  [parameters] of model.toml: settings that only this runtime understands
    name        of the model
    version     of the model, a number
    max_rows    max_batch_size of model.toml or config.pbtxt; None: not declared
    batches     whether that declares that requests may run together. If not, it only limits the rows of one
    optional    the names of those `inputs` that model.toml or config.pbtxt declares optional
    decoupled   whether one of them declares that a request gets any number of answers
    allow_code  whether the operator lets models run code that their files bring (allow_python)
    calls       by which a model with `calls_models` sends requests to other models (worker/calls.py); None if there are
                no others, because the model does not run in a gateway
    """

    artifact: str
    inputs: Tuple[TensorSpec, ...] = ()
    outputs: Tuple[TensorSpec, ...] = ()
    device: str = "cpu"
    threads: int = 1
    parameters: Dict[str, Any] = {}
    name: str = ""
    version: str = ""
    max_rows: Optional[int] = None
    batches: bool = True
    optional: Tuple[str, ...] = ()
    decoupled: bool = False
    calls: Any = None
    allow_code: bool = False


class SequenceControl(NamedTuple):
    """What a request says of the sequence to which it belongs. An integer is another sequence than its digits as text.

    start, end  whether it is the first, or the last, request of the sequence
    """

    id: Union[int, str]
    start: bool = False
    end: bool = False


class Request(NamedTuple):
    """A request, for models with `takes_requests`.

    inputs      as for `Model.infer`
    outputs     likewise
    id          the client's own; "" if it sent none
    parameters  the client's own: texts, numbers and booleans, without those that the protocol defines
    sequence    None if it does not belong to one
    deadline    time.monotonic() seconds; nobody waits for the answer after it
    """

    inputs: "Dict[str, np.ndarray]"
    outputs: Sequence[str] = ()
    id: str = ""
    parameters: Dict[str, Any] = {}
    sequence: Optional[SequenceControl] = None
    deadline: float = float("inf")


class Call(NamedTuple):
    """A request to another model, without its inputs. Everything but the model may be left out.

    version     "" for the newest one
    outputs     the names of the requested outputs; empty for all
    id          for its model; "" for none
    parameters  texts, numbers and booleans by name
    sequence    None if it belongs to none
    priority    as clients state it; 0 for that of the request in whose name it is sent
    timeout_s   0 for the time that is left to the request in whose name it is sent
    takes_many  whether the caller takes any number of answers
    """

    model: str
    version: str = ""
    outputs: Sequence[str] = ()
    id: str = ""
    parameters: Dict[str, Any] = {}
    sequence: Optional[SequenceControl] = None
    priority: int = 0
    timeout_s: float = 0.0
    takes_many: bool = False


class BatchAnalysis(NamedTuple):
    """What a signature's graph shows about running the rows of several requests in one batch.

    Each entry is a short phrase for the log that names the operator and, if it has one, its node:
    "DynamicQuantizeLinear 'q1' takes one scale from all rows". Rows are along the first dimension.

    mixes     operators that let one row's values influence another row's answer, or that make the number of rows of an
              output depend on values
    writes    operators that change the model's state. A signature with any runs only when a client requests it
    unknown   operators that the analysis could not follow; it claims nothing about them
    max_rows  the maximum number of rows that the artifact accepts in one run; None if there is no limit
    alone     why the artifact itself asks that each request run alone, whatever model.toml declares; "" if it does not
    random    an operator that draws random numbers, wherever it is in the graph and whether or not it runs each time;
              "" if none is known
    """

    mixes: Tuple[str, ...] = ()
    writes: Tuple[str, ...] = ()
    unknown: Tuple[str, ...] = ()
    max_rows: Optional[int] = None
    alone: str = ""
    random: str = ""

    @property
    def independent(self) -> bool:
        """Whether the graph proves that each row of each output depends only on the same row of the inputs."""
        return not (self.mixes or self.writes or self.unknown or self.alone)

    @property
    def varies(self) -> str:
        """Why the same inputs may get another answer the next time; "" if the graph does not show that they may."""
        random = [text for text in self.mixes + self.unknown if text.endswith(("is random", "may be random"))]
        return next(iter(random + list(self.writes)), self.random)


class InputRange(NamedTuple):
    """The range of an input's numbers, both ends included, as the artifact's graph shows it.

    rows           whether the numbers are indices of rows in a table: integers, of which those beyond the range are
                   refused or meaningless. Otherwise the graph cuts off whatever is beyond the range, for example by a
                   clip or a quantization, and real inputs may well exceed it
    tables_differ  whether the numbers index tables of different sizes. The range is what all of them have. If each
                   column of the input has its own table, the others accept larger numbers
    """

    low: float
    high: float
    rows: bool = False
    tables_differ: bool = False


class LoadError(Exception):
    """The model cannot be loaded, and retrying will not help. The message is one sentence for the user."""


class InvalidInput(Exception):
    """The inputs are at fault, not the model. The message is one sentence for the client, without paths."""


class Unsupported(Exception):
    """The request needs something that this runtime cannot do. The message is one sentence for the client."""


class ModelFailed(Exception):
    """The model itself reports that it failed on this request. The message is one sentence for the client."""


class CallFailed(Exception):
    """A call to another model has failed. The message is one sentence, fit for clients.

    kind   one of the gateway's kinds of errors, such as "unavailable"
    model  that was called
    """

    def __init__(self, kind: str, message: str, model: str = "") -> None:
        super().__init__(message)
        self.kind, self.model = kind, model


class DeviceLost(Exception):
    """This process can no longer use its device, but a new one can. The worker is replaced."""


class ResponseSender:
    """Sends the answers to one request of a model with `sends_answers`, from any thread."""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for further answers. They may be sent nevertheless, and are dropped."""
        raise NotImplementedError

    def send(self, outputs: "Dict[str, np.ndarray]") -> None:
        """Send an answer, which is copied. Waits while the client has many answers left to read.

        Raises RuntimeError after the end.
        """
        raise NotImplementedError

    def end(self) -> None:
        """End the request: it gets no further answer. Raises RuntimeError if it has ended."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """End the request with an error, as an exception of `infer` does. Raises RuntimeError if it has ended."""
        raise NotImplementedError


class Model:
    """A loaded model.

    signatures  by name; the first one is the default. If the artifact declares none, the model has one signature with
                whatever is known, which is at least the names
    pipelined   whether the model implements `start` and `finish`
    decoupled   whether a request gets any number of answers. Such a model implements `stream` in place of `infer`, and
                declares its inputs and outputs. Its requests are not batched, and it is not warmed up
    takes_requests  whether the model gets requests as they came, with their ids and parameters. Such a model implements
                `infer_requests` in place of `infer`, or `stream_request` in place of `stream`. It is never pipelined
    sends_answers   whether a model that is decoupled and takes requests sends its answers when it likes: it implements
                `serve_request` in place of `stream_request`
    calls_models  whether the model may send requests to other models, by LoadOptions.calls
    execution     what runs the model, in words for its configuration, where that is not obvious: "" if it is
    """

    signatures: Dict[str, Signature] = {}
    pipelined: bool = False
    decoupled: bool = False
    takes_requests: bool = False
    sends_answers: bool = False
    calls_models: bool = False
    execution: str = ""

    def infer(self, inputs: "Dict[str, np.ndarray]", outputs: Sequence[str], signature: str) -> "Dict[str, np.ndarray]":
        """Run the model once.

        inputs: all inputs that the request names. The arrays belong to the caller and must not be changed.
        outputs: the names of the requested outputs; empty for all.

        Returns one array per output, in the model's order. The model must not change them afterwards.

        Raises InvalidInput if the inputs are at fault. Any other exception is a failure of the model: its message goes
        to the log, not to the client. After a MemoryError, the worker may retry with fewer rows.

        With `takes_requests`, this is a request without an id, for runs that no client has asked for.
        """
        if not self.takes_requests:
            raise NotImplementedError
        (answer,) = self.infer_requests([Request(inputs, outputs)], signature)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def in_fp32(self) -> "Model":
        """Return this model as it would compute in FP32 what it computes in FP16 or BF16, its outputs not rounded.

        An export is compared with that. This model cannot be used afterwards. Raises LoadError if the runtime cannot do
        so.
        """
        raise LoadError("the runtime cannot compute in FP32 what the model computes in another datatype")

    def infer_requests(
        self, requests: Sequence[Request], signature: str
    ) -> "Sequence[Union[Dict[str, np.ndarray], Exception]]":
        """Run the requests of a batch, if `takes_requests`. Their inputs are not joined, and stay the caller's.

        Returns, for each request in order, its outputs as `infer` does, or the exception for which it fails. If this
        raises an exception itself, each request runs again on its own, unless there is only one.
        """
        raise NotImplementedError

    def stream(
        self, inputs: "Dict[str, np.ndarray]", outputs: Sequence[str], signature: str
    ) -> "Iterator[Dict[str, np.ndarray]]":
        """Return an iterator over the answers to one request, if `decoupled`; usually, this is a generator.

        The arguments are those of `infer`. Each answer has one array per output, of which it may leave some out. The
        model must not change an answer afterwards. The worker asks for the next one when the client has read enough of
        those before, and asks the iterators of several requests in turn. `execution_timeout_s` is the limit for one
        answer. When the client has left, the worker calls the iterator's `close`, if it has one, as generators do.

        An exception ends the request with an error, as one of `infer` does.
        """
        raise NotImplementedError

    def stream_request(self, request: Request, signature: str) -> "Iterator[Dict[str, np.ndarray]]":
        """Do what `stream` does for a request, if `decoupled` and `takes_requests`."""
        raise NotImplementedError

    def serve_request(self, request: Request, sender: ResponseSender, signature: str) -> None:
        """Answer a request with the sender, if `sends_answers`, before this returns or later.

        It is called on a thread of its own, always the same one, and `execution_timeout_s` limits the time until it
        returns, without the time in which it waits for clients. If it raises an exception, the request fails.
        """
        raise NotImplementedError

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        """Return what the artifact's graph shows about batching this signature; None if there is no readable graph.

        Called once per signature after `load`, before anything runs. An exception counts as None and is logged.
        """
        return None

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        """Return the ranges of those inputs for which the artifact's graph shows one, by name.

        Called after `load`, before anything runs. An exception counts as {} and is logged.
        """
        return {}

    def start(self, inputs: "Dict[str, np.ndarray]", outputs: Sequence[str], signature: str) -> Any:
        """Begin what `infer` does, without waiting for the device, and return a handle for `finish`.

        If `pipelined`, the worker starts a second batch while the first is being computed. At most two are in progress,
        and they are finished in the order in which they were started. `infer` may be called meanwhile. The worker does
        not change `inputs` until `finish` has returned. Raises the same exceptions as `infer`.
        """
        raise NotImplementedError

    def finish(self, handle: Any) -> "Dict[str, np.ndarray]":
        """Wait for what `start` began and return its outputs. Called once per handle. Raises the same as `infer`."""
        raise NotImplementedError

    def empty(self, shape: Sequence[int], dtype: "np.dtype") -> "np.ndarray":
        """Return an array in which the worker assembles a batch, for example in pinned memory.

        The memory may be reused only after the array has been garbage-collected. Never called for BYTES.
        """
        import numpy as np

        return np.empty(shape, dtype)

    def close(self) -> None:
        """Release what the end of the process would not, for example temporary files."""


def unnamed_outputs(count: int) -> List[str]:
    """Return names for outputs that have none in the artifact: OUTPUT__0, OUTPUT__1, …"""
    return ["OUTPUT__%d" % index for index in range(count)]


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
