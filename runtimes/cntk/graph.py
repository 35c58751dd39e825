"""Reads the graph of a CNTK function for a profile. A block, which is a function with a body, becomes a scope."""

from typing import Any, Dict, List

import cntk

from runtimes.contract import Model
from runtimes.profiling import GraphNode, Names

from .runtime import CntkModel

# Operators whose attributes contain no axis. CNTK ends the process if it is asked for the attributes of others, and an
# axis in them is neither static nor ordered.
_WITHOUT_AXES = set(
    """BatchNormalization Convolution Dropout FutureValue PastValue Pooling ROIPooling Times TransposeTimes
    Unpooling""".split()
)


def read_graph(model: Model, signature: str) -> List[GraphNode]:
    assert isinstance(model, CntkModel)
    reader = _Reader()
    reader.function(model.function, "", {})
    return reader.found()


def names_of(function: Any) -> Dict[str, str]:
    """Return uid → the name of its node."""
    reader = _Reader()
    reader.function(function, "", {})
    return reader.named


class _Reader:
    def __init__(self) -> None:
        self._nodes = []  # type: List[GraphNode]  # whose inputs are uids
        self._names = Names()
        self.named = {}  # type: Dict[str, str]  # uid of a function or variable → its node

    def found(self) -> List[GraphNode]:
        """Return the nodes. A placeholder that stands for nothing is left out."""
        named = self.named
        return [node._replace(inputs=tuple(named[uid] for uid in node.inputs if uid in named)) for node in self._nodes]

    def function(self, root: Any, scope: str, bindings: Dict[str, Any]) -> None:
        """Add the functions that a root depends on. bindings: in a block, placeholder's uid → the variable outside."""
        order, left = [], set()  # type: List[Any], Any
        stack = [(root.root_function, False)]
        while stack:  # each after what it takes; a recurrence is cut at some function
            each, done = stack.pop()
            if done:
                order.append(each)
            elif each.uid not in left:
                left.add(each.uid)
                stack.append((each, True))
                owners = [value.owner for value in each.inputs if value.is_output]
                stack.extend((owner.root_function, False) for owner in reversed(owners))
        reserved = {each.uid: self._names.unique(each.name or each.uid, scope) for each in order if not each.is_block}
        self.named.update(reserved)
        for each in order:
            if each.is_block:
                self._block(each, scope, bindings)
                continue
            inputs = tuple(self._source(bindings.get(value.uid, value), scope) for value in each.inputs)
            known = each.attributes.items() if each.op_name in _WITHOUT_AXES else ()
            attributes = {key: str(value) for key, value in known}
            self._nodes.append(GraphNode(reserved[each.uid], each.op_name, inputs, _shape(each.outputs[0]), attributes))

    def _block(self, block: Any, scope: str, bindings: Dict[str, Any]) -> None:
        inner = dict(bindings)
        for placeholder, value in block.block_arguments_mapping:
            inner[placeholder.uid] = bindings.get(value.uid, value)
        self.function(block.block_root, self._names.unique(block.name or block.op_name, scope), inner)
        self.named[block.uid] = self.named[block.block_root.root_function.uid]

    def _source(self, value: Any, scope: str) -> str:
        """Return the uid of the function or variable that a value comes from, and add a variable that is new."""
        if value.is_output:
            return value.owner.root_function.uid
        if not value.is_placeholder and value.uid not in self.named:
            self.named[value.uid] = self._names.unique(value.name or value.uid, "" if value.is_input else scope)
            kind = "Placeholder" if value.is_input else "Const"
            self._nodes.append(GraphNode(self.named[value.uid], kind, (), _shape(value)))
        return value.uid


def _shape(variable: Any) -> Any:
    if not isinstance(variable, cntk.Variable) or variable.shape is None:
        return None
    return (-1,) * len(variable.dynamic_axes) + tuple(size if size >= 0 else -1 for size in variable.shape)
