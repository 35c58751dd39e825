"""LiteRT's interpreter, run by subgraphs and tensors' numbers.

The interpreter's inner object is asked. The public one runs signatures by their names and the first
subgraph by itself, which must not be mixed; and no signature can be tried with it before it is run.
"""

import re
from typing import Dict, List, Sequence, Tuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from runtimes.contract import Unsupported
from runtimes.redaction import redacted

# How much an interpreter may have said before it is replaced by a new one.
_MAX_SAID = 1 << 18


# Which operator failed, and nothing about why.
_NODE_FAILED = re.compile(r"\s*Node number \d+ \([^)]*\) failed to (prepare|invoke)\.")


class Failed(Exception):
    """LiteRT's words, of this failure alone: its message has those of all failures before."""


class Runner:
    """`start` comes first. `resets` and `may_restart` are settled once the file has been read.

    resets       what tensors keep from one run to the next is reset before each
    may_restart  nothing is lost with the interpreter
    """

    def __init__(self, content: bytes, threads: int) -> None:
        self._content = content
        self._threads = threads
        self.resets = False
        self.may_restart = False

    def start(self) -> None:
        """A new interpreter. Raises ValueError for a file that is none of LiteRT's: it verifies what it reads."""
        self._said = ""
        self._shapes: Dict[int, List[Tuple[int, ...]]] = {}
        interpreter = Interpreter(model_content=self._content, num_threads=self._threads)
        try:
            # For the whole interpreter at once: XNNPACK, which makes it fast, is applied nowhere else.
            interpreter.allocate_tensors()
        except RuntimeError as error:
            self._said = str(error)  # the first subgraph's trouble; `prepare` meets it, if it is wanted
        self._inner = interpreter._interpreter

    def prepare(self, graph: int) -> None:
        """Whether this subgraph can run at all, in the sizes that the file has. Raises Failed."""
        try:
            self._inner.AllocateTensors(graph)
        except (RuntimeError, ValueError) as error:
            raise self._failed(error) from error

    def run(self, graph: int, arrays: Dict[int, np.ndarray], wanted: Sequence[int]) -> List[np.ndarray]:
        """Tensors out of tensors in, copies both. Raises Failed and MemoryError."""
        shapes = [array.shape for array in arrays.values()]
        try:
            if self._shapes.get(graph) != shapes:
                self._shapes.pop(graph, None)  # whatever fails now, the next request starts from here
                for number, array in arrays.items():
                    self._inner.ResizeInputTensor(number, np.array(array.shape, np.int32), False, graph)
                self._inner.AllocateTensors(graph)
                self._shapes[graph] = shapes
            for number, array in arrays.items():
                self._inner.SetTensor(number, _settable(array), graph)
            if self.resets:
                self._inner.ResetVariableTensors()
            self._inner.Invoke(graph)
            return [np.asarray(self._inner.GetTensor(number, graph)) for number in wanted]  # a scalar is a number
        except (RuntimeError, ValueError) as error:
            self._shapes.pop(graph, None)
            failed = self._failed(error)
            if len(self._said) > _MAX_SAID and self.may_restart:
                self.start()
            if not _NODE_FAILED.sub("", str(failed)).strip():
                raise MemoryError("LiteRT got no memory for its tensors") from error  # what fails without a reason
            raise failed from error

    def _failed(self, error: Exception) -> Failed:
        text, before = str(error), self._said
        if isinstance(error, ValueError):  # these have words of their own
            return Failed(text)
        self._said = text
        return Failed(text[len(before) :] if text.startswith(before) else text)


def _settable(array: np.ndarray) -> np.ndarray:
    """The array as LiteRT reads it. Raises Unsupported.

    Of an object array of rank 0 it would take the object's address for its text. A fixed-width string of numpy's is
    read whole, with zeros at its end; there is none of length 0.
    """
    if array.dtype != object or array.ndim:
        return array
    text = array.item()
    if not text:
        raise Unsupported("LiteRT takes no empty string of rank 0: send one that has at least one byte")
    return np.array(text, "S%d" % len(text))


def sentence(error: BaseException) -> str:
    """What of LiteRT's message a client can use: no source files, places in them or numbers of nodes."""
    text = " ".join(str(error).split())
    if "XNNPack delegate failed to reshape" in text:  # no more than this is to be had
        return "the model cannot take inputs of these shapes"
    told = _NODE_FAILED.sub(". ", text)
    told = re.sub(r"[\w./+-]+\.(cc|cpp|h|c)(:\d+:?)? ", "", told)
    told = re.sub(r"was not true\.(?=\S)", "was not true, ", told).strip(" .,")
    if not told:
        told = re.sub(r"Node number \d+ \(([^)]*)\)", r"the operator \1", text)
    return redacted(told) or "LiteRT does not say why"
