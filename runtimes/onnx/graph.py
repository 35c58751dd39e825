"""An ONNX graph being written, by runtimes that translate a format of their own."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes.contract import LoadError

# Old enough for what converts ONNX further, new enough for all that is written here.
OPSET, IR = 17, 8
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.float16): TensorProto.FLOAT16,
}
# Of what one ONNX file can hold. Small files can ask for any number of large constants.
_MAX_BYTES = (1 << 31) - 1


class Graph:
    """Nodes and constants. One within another (a loop's body) reads the outer one's tensors by their names."""

    def __init__(self, reserved: Sequence[str] = (), outer: "Optional[Graph]" = None) -> None:
        self.inside = outer is not None
        self._used: Dict[str, int] = outer._used if outer else dict.fromkeys(reserved, 0)
        # What tells an array from others → its name, and the array where it is known by the place of its values.
        self._constants: Dict[Any, Tuple[str, Optional[np.ndarray]]] = outer._constants if outer else {}
        self._root: Graph = outer._root if outer else self
        self._bytes = self._computed = 0
        self.nodes: List[onnx.NodeProto] = []
        self.initializers: List[TensorProto] = outer.initializers if outer else []

    def unique(self, wanted: str) -> str:
        count, name = self._used.get(wanted, 0), wanted
        while name in self._used:
            count += 1
            name = "%s_%d" % (wanted, count)
        self._used[wanted] = count
        self._used.setdefault(name, 0)
        return name

    def emit(self, op: str, inputs: Sequence[str], called: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; the name of its output, or a list of them where there are several."""
        names = [self.unique(called) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, names[0], **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: np.ndarray, called: str = "constant") -> str:
        """An initializer's name; what is small, or a view of the file, is there once. Raises LoadError."""
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
        """Whether so many more values may be computed of constants."""
        self._root._computed += count
        return self._root._computed <= most

    def sizes(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, np.int64), "sizes")

    def scalar(self, value: float, dtype: np.dtype) -> str:
        return self.constant(np.array(value, dtype), "scalar")
