"""Builds an ONNX graph, for runtimes that translate their own format to ONNX."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes.contract import LoadError

# Old enough for the tools that convert ONNX further, new enough for all operators that our runtimes write.
OPSET, IR = 17, 8
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float16): TensorProto.FLOAT16,
}
# The limit of a protobuf message, and so of an ONNX file. It is checked while constants are added, because a small
# source file can request any number of large constants.
_MAX_BYTES = (1 << 31) - 1


class Graph:
    """Nodes and constants. A graph inside another, such as a loop's body, uses the outer tensors by their names."""

    def __init__(self, reserved: Sequence[str] = (), outer: "Optional[Graph]" = None) -> None:
        self.inside = outer is not None
        self._used: Dict[str, int] = outer._used if outer else dict.fromkeys(reserved, 0)
        # Key of an array → its name. An array that is identified by its address is kept as well, so that the address
        # is not reused for another one.
        self._constants: Dict[Any, Tuple[str, Optional[np.ndarray]]] = outer._constants if outer else {}
        self._root: Graph = outer._root if outer else self
        self._bytes = self._computed = 0
        self.nodes: List[onnx.NodeProto] = []
        self.initializers: List[TensorProto] = outer.initializers if outer else []

    def unique(self, preferred: str) -> str:
        """Return `preferred`, or a name that begins with it if it is in use."""
        count, name = self._used.get(preferred, 0), preferred
        while name in self._used:
            count += 1
            name = "%s_%d" % (preferred, count)
        self._used[preferred] = count
        self._used.setdefault(name, 0)
        return name

    def emit(self, op: str, inputs: Sequence[str], called: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node. Returns the name of its output, or a list of names if it has several outputs."""
        names = [self.unique(called) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0], **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: np.ndarray, called: str = "constant") -> str:
        """Add an initializer and return its name. Raises LoadError if there are too many bytes of constants.

        Equal small arrays are stored once, and so are read-only arrays (views of the file) at the same address.
        """
        array = np.asarray(array)
        held = None
        key: Any = None
        if array.size <= 64:
            key = (array.dtype.str, array.shape, array.tobytes())
        elif not array.flags.writeable:
            key, held = (array.dtype.str, array.shape, array.strides, array.ctypes.data), array
        if key in self._constants:
            return self._constants[key][0]
        self._root._bytes += array.nbytes
        if self._root._bytes > _MAX_BYTES:
            raise LoadError("the model has more constants than one ONNX file can hold, %d bytes" % _MAX_BYTES)
        name = self.unique(called)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        if key:
            self._constants[key] = name, held
        return name

    def compute(self, count: int, most: int) -> bool:
        """Count values that are computed from constants. Returns whether there are no more than `most` in total."""
        self._root._computed += count
        return self._root._computed <= most

    def sizes(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, np.int64), "sizes")

    def scalar(self, value: float, dtype: np.dtype) -> str:
        return self.constant(np.array(value, dtype), "scalar")
