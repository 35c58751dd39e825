"""Runs LiteRT's interpreter by indices of subgraphs and tensors.

This uses the interpreter's inner object. The public one runs either signatures by name or the first subgraph, which
cannot be mixed, and it cannot check whether a signature can run without running it.
"""

import re
from typing import Dict, List, Sequence, Tuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from runtimes.contract import NARROW_RANGES, Unsupported, datatype_of
from runtimes.redaction import redacted

# The interpreter never clears its error messages: each error contains all previous ones. Beyond this length it is
# replaced by a new one. A smaller limit restarts it more often under failing requests, each time with a new allocation
# of all tensors; a larger one makes each error slower.
_MAX_MESSAGES = 1 << 18


# The part of a message that only says which operator failed, not why.
_NODE_FAILED = re.compile(r"\s*Node number \d+ \([^)]*\) failed to (prepare|invoke)\.")


class LiteRtError(Exception):
    """LiteRT's message for a single failure, without those of previous failures that it also contains."""


class Runner:
    """`start` must be called first, and `resets` and `may_restart` be set once the file has been read.

    resets       whether to reset the state of tensors before each run
    may_restart  whether the interpreter has no state that would be lost
    """

    def __init__(self, content: bytes, threads: int) -> None:
        self._content = content
        self._threads = threads
        self.resets = False
        self.may_restart = False

    def start(self) -> None:
        """Create the interpreter. Raises ValueError for an invalid file, since LiteRT verifies it."""
        self._messages = ""
        self._shapes: Dict[int, List[Tuple[int, ...]]] = {}
        interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
        try:
            # This is needed for the whole interpreter, because only it applies XNNPACK, which is much faster.
            interpreter.allocate_tensors()
        except RuntimeError as error:
            self._messages = str(error)  # about the first subgraph; `prepare` reports it if that one is served
        self._inner = interpreter._interpreter

    def prepare(self, graph: int) -> None:
        """Check that this subgraph can run with the sizes in the file. Raises LiteRtError."""
        try:
            self._inner.AllocateTensors(graph)
        except (RuntimeError, ValueError) as error:
            raise self._failure(error) from error

    def run(self, graph: int, arrays: Dict[int, np.ndarray], outputs: Sequence[int]) -> List[np.ndarray]:
        """Run a subgraph; inputs and outputs are copied. Raises LiteRtError and MemoryError."""
        shapes = [array.shape for array in arrays.values()]
        try:
            if self._shapes.get(graph) != shapes:
                self._shapes.pop(graph, None)  # if resizing fails, the next request must resize again
                for number, array in arrays.items():
                    self._inner.ResizeInputTensor(number, np.array(array.shape, np.int32), False, graph)
                self._inner.AllocateTensors(graph)
                self._shapes[graph] = shapes
            for number, array in arrays.items():
                self._inner.SetTensor(number, _settable(array), graph)
            if self.resets:
                self._inner.ResetVariableTensors()
            self._inner.Invoke(graph)
            # GetTensor returns a scalar as a plain number.
            return [np.asarray(self._inner.GetTensor(number, graph)) for number in outputs]
        except (RuntimeError, ValueError) as error:
            self._shapes.pop(graph, None)
            failure = self._failure(error)
            if len(self._messages) > _MAX_MESSAGES and self.may_restart:
                self.start()
            if not _NODE_FAILED.sub("", str(failure)).strip():
                # An operator that fails without a reason could not allocate its tensors.
                raise MemoryError("LiteRT could not allocate memory for its tensors") from error
            raise failure from error

    def _failure(self, error: Exception) -> LiteRtError:
        text, previous = str(error), self._messages
        if isinstance(error, ValueError):  # these only contain their own message
            return LiteRtError(text)
        self._messages = text
        return LiteRtError(text[len(previous) :] if text.startswith(previous) else text)


def _settable(array: np.ndarray) -> np.ndarray:
    """Return the array in a form that LiteRT reads correctly: INT4 as INT8. Raises Unsupported.

    LiteRT would read the address of an object array of rank 0 as its text. It reads a fixed-width numpy string
    completely, including zeros at the end, but numpy has none of length 0.
    """
    if array.dtype.isbuiltin == 2 and datatype_of(array.dtype) in NARROW_RANGES:
        return array.astype(np.uint8 if datatype_of(array.dtype) == "UINT4" else np.int8)
    if array.dtype != object or array.ndim:
        return array
    text = array.item()
    if not text:
        raise Unsupported("LiteRT does not support an empty string of rank 0: send at least one byte")
    return np.array(text, "S%d" % len(text))


def client_message(error: BaseException) -> str:
    """Return the part of LiteRT's message that is useful to clients, without source files and node numbers."""
    text = " ".join(str(error).split())
    if "XNNPack delegate failed to reshape" in text:  # the message contains nothing else
        return "the model does not support inputs of these shapes"
    message = _NODE_FAILED.sub(". ", text)
    message = re.sub(r"[\w./+-]+\.(cc|cpp|h|c)(:\d+:?)? ", "", message)
    message = re.sub(r"was not true\.(?=\S)", "was not true, ", message).strip(" .,")
    if not message:
        message = re.sub(r"Node number \d+ \(([^)]*)\)", r"the operator \1", text)
    return redacted(message) or "LiteRT does not give a reason"
