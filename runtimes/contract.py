"""What a runtime is: the only file that the author of one needs to read.

A runtime is a folder with two files. `runtime.toml` says which Pythons it runs on, which
packages it needs and which artifacts it reads; reading it imports nothing. `runtime.py` runs
inside a worker, in an environment that has those packages, and defines one function:

    def load(options: LoadOptions) -> Model

A worker holds one model, in one process, on one thread: `load` is called once, then `infer`
again and again, then `close`. What is printed goes to the gateway's log with the model's name.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np


class Datatype(NamedTuple):
    """One of the Open Inference Protocol's datatypes.

    itemsize  bytes of one element on the wire; 0 for BYTES, whose elements vary
    kind      "bool", "uint", "int", "float" or "bytes"
    dtype     numpy's, little-endian; None where numpy has no such type: ask `numpy_dtype`, which says so
    """

    name: str
    itemsize: int
    kind: str
    dtype: Optional[np.dtype]


# All that are served, by name. BYTES is an object array of `bytes`, on both sides of `infer`. A datatype of ""
# means: the artifact does not tell.
DATATYPES: Dict[str, Datatype] = {
    each.name: each
    for each in (
        Datatype("BOOL", 1, "bool", np.dtype(np.bool_)),
        Datatype("UINT8", 1, "uint", np.dtype(np.uint8)),
        Datatype("UINT16", 2, "uint", np.dtype(np.uint16)),
        Datatype("UINT32", 4, "uint", np.dtype(np.uint32)),
        Datatype("UINT64", 8, "uint", np.dtype(np.uint64)),
        Datatype("INT8", 1, "int", np.dtype(np.int8)),
        Datatype("INT16", 2, "int", np.dtype(np.int16)),
        Datatype("INT32", 4, "int", np.dtype(np.int32)),
        Datatype("INT64", 8, "int", np.dtype(np.int64)),
        Datatype("FP16", 2, "float", np.dtype(np.float16)),
        Datatype("FP32", 4, "float", np.dtype(np.float32)),
        Datatype("FP64", 8, "float", np.dtype(np.float64)),
        Datatype("BYTES", 0, "bytes", np.dtype(object)),
    )
}
_NAMES = {each.dtype: each.name for each in DATATYPES.values() if each.dtype is not None}


class _NumpyDtypes(dict):
    def __missing__(self, datatype: str) -> np.dtype:
        raise ValueError("numpy has no %s, so it can only be passed on as bytes" % DATATYPES[datatype].name)


# Numpy's dtype for a datatype's name. Raises KeyError for what is no datatype, and ValueError, with a sentence, for
# one that numpy lacks. It is asked for each tensor of a request, so it is a dictionary's own method.
numpy_dtype: Callable[[str], np.dtype] = _NumpyDtypes({name: dtype for dtype, name in _NAMES.items()}).__getitem__


def kind_of(datatype: str) -> str:
    """Datatype.kind; "" for a datatype that is not known."""
    return DATATYPES[datatype].kind if datatype else ""


def datatype_of(dtype: Any) -> str:
    """The datatype's name for a numpy dtype. Raises KeyError for one that the protocol lacks."""
    dtype = np.dtype(dtype)
    return "BYTES" if dtype.kind in "SUO" else _NAMES[dtype.newbyteorder("=")]


class TensorSpec(NamedTuple):
    """One input or output. In `shape`, -1 is any size; None means that not even the rank is known."""

    name: str
    datatype: str = ""
    shape: Optional[Tuple[int, ...]] = None


class Signature(NamedTuple):
    """What one entry point of a model takes and gives.

    `refused` names outputs that exist but cannot be served, each with the reason in words:
    asking for one is the client's error, and it is left out when a request names no outputs.
    """

    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    refused: Dict[str, str] = {}


class LoadOptions(NamedTuple):
    """What `load` gets.

    artifact    the file or folder that runtime.toml's formats matched
    inputs      declared in model.toml; they refine what the artifact says, and never contradict it (`checks.py`).
                Empty: not declared
    outputs     likewise
    device      "cpu" or "cuda". Which card it is was settled when the worker was started
    threads     how many threads one inference may use, >= 1
    parameters  model.toml's [parameters], for whatever this runtime alone understands
    """

    artifact: str
    inputs: Tuple[TensorSpec, ...] = ()
    outputs: Tuple[TensorSpec, ...] = ()
    device: str = "cpu"
    threads: int = 1
    parameters: Dict[str, Any] = {}


class BatchAnalysis(NamedTuple):
    """What reading a signature's graph says about running the rows of several requests together.

    Each entry is a short phrase for the log that names the operator and, where there is one, its node:
    "DynamicQuantizeLinear 'q1' takes one scale from all rows". Rows lie along the first dimension.

    mixes    what lets one row's values influence another row's answer, or makes the number of rows of an output
             depend on values
    writes   what changes the model's state when the signature runs: such a signature never runs unasked
    unknown  what the reader could not follow; nothing is claimed about it
    max_rows the most rows that the artifact takes in one run; None: it has no such limit
    """

    mixes: Tuple[str, ...] = ()
    writes: Tuple[str, ...] = ()
    unknown: Tuple[str, ...] = ()
    max_rows: Optional[int] = None

    @property
    def independent(self) -> bool:
        """Whether the graph alone shows that every row of every output depends on its own row of the inputs only."""
        return not (self.mixes or self.writes or self.unknown)


class InputRange(NamedTuple):
    """The numbers of an input that the artifact's graph gives a meaning to; both ends are of them.

    rows  whether they are rows of a table: whole numbers, of which others are refused or mean nothing. Else what lies
          beyond is cut off, as by a clip or a quantisation, and real inputs do reach beyond
    """

    low: float
    high: float
    rows: bool = False


class LoadError(Exception):
    """The model cannot be loaded, and trying again will not help. Its text is one sentence for the user."""


class InvalidInput(Exception):
    """These inputs are at fault, not the model. Its text is one sentence for the client: no paths."""


class Unsupported(Exception):
    """The request asks for something that this runtime cannot do. Its text is one sentence for the client."""


class DeviceLost(Exception):
    """The device can no longer be used by this process; another one can. The worker is replaced."""


class Model:
    """A loaded model.

    `signatures` maps names to what they take and give; the first is the default. A model whose
    artifact tells nothing has one signature with whatever is known (names at least).
    """

    signatures: Dict[str, Signature] = {}
    # Whether there are `start` and `finish` too; see there.
    pipelined: bool = False

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        """Run the model once.

        `inputs` holds every input that the request named, as arrays that belong to the caller
        and stay as they are. `outputs` are the wanted names, empty for all. The answer has one array per
        output name, in the model's order; it must not be changed afterwards by the model.

        Raises InvalidInput when the inputs are at fault. Any other exception is the model's own
        failure: its text goes to the log, not to the client. MemoryError may be retried.
        """
        raise NotImplementedError

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        """What the artifact's graph says about batching this signature. None: it has no graph that can be read.

        Called once per signature after `load`, before anything runs. An exception counts as None, and is logged.
        """
        return None

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        """Input → range, of those for which the artifact's graph has one.

        Called after `load`, before anything runs. An exception counts as {}, and is logged.
        """
        return {}

    def start(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Any:
        """Begin what `infer` does, without waiting for the device, and give a handle for `finish`.

        With `pipelined`, the worker starts the next batch while one is being computed: at most two are under
        way at a time, of which the one that was started first is also finished first. `infer` may be called
        while one is under way. `inputs` stay as they are until `finish` has returned. Raises as `infer` does.
        """
        raise NotImplementedError

    def finish(self, handle: Any) -> Dict[str, np.ndarray]:
        """Wait for what `start` began; give what `infer` gives. Called once per handle. Raises as `infer` does."""
        raise NotImplementedError

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """An array for the worker to put a batch together in: where the device reads it best (pinned memory, say).

        It must not be given out again before it has been dropped. Never asked for BYTES.
        """
        return np.empty(shape, dtype)

    def close(self) -> None:
        """Let go of what the process's end would not free (temporary files, say)."""


def unnamed_outputs(count: int) -> List[str]:
    """The names of outputs that the artifact gives no names: OUTPUT__0, OUTPUT__1, …"""
    return ["OUTPUT__%d" % index for index in range(count)]


def first_line(error: BaseException) -> str:
    """The first line of a framework's error: what a client can use of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
