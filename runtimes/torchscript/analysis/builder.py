"""Converts a graph with in-place writes and views to one without them.

Each operator that writes in place gets a new result, and later uses of every tensor that shares the memory are
redirected: a view is created again, of the new result. If sharing cannot be followed, the graph is marked as unclear.
"""

import itertools
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from runtimes.dataflow.graph import Graph, Node, Tensor
from runtimes.dataflow.walk import TooLarge

from .operators import APPEND, AS_ROWS, LIST, REPLACED, STORED, UNCLEAR, WRITTEN

_MAX_STEPS = 1000000  # lookups over all blocks; limits the time to some seconds


class Builder:
    """Builds one graph, or a block inside another.

    changed: the tensors of the enclosing graphs that were written to, and what replaces them.
    """

    def __init__(self, outer: "Optional[Builder]" = None) -> None:
        self.nodes = []  # type: List[Node]
        self.constants = []  # type: List[Tensor]
        self._outer = outer
        self._numbers: Any = itertools.count() if outer is None else outer._numbers
        self._steps: Any = itertools.count() if outer is None else outer._steps
        self._own: Set[str] = set()
        self._now = {}  # type: Dict[str, str]  # a tensor that was written to → what replaces it
        self._views = {}  # type: Dict[str, Tuple[Node, Tuple[str, ...]]]  # a view → its operator, and the tensors whose memory it shares
        self._lists = {}  # type: Dict[str, Node]  # a list → the node that made it
        self._kept = {}  # type: Dict[str, str]  # state that is kept between calls → its description
        self._tangled: Set[str] = set()  # tensors that may share memory in ways that are not followed
        self.changed = {}  # type: Dict[str, str]

    def constant(self, tensor: Tensor, kept: str = "") -> None:
        """Add a constant. kept: a description if it is state of the model, so that a write to it changes the state."""
        self.constants.append(tensor)
        self.define(tensor.name, kept)

    def define(self, name: str, kept: str = "", tangled: bool = False) -> None:
        self._own.add(name)
        if kept:
            self._kept[name] = kept
        if tangled:
            self._tangled.add(name)

    def same(self, name: str, as_name: str) -> None:
        """Make `name` another name of `as_name`."""
        self._own.add(name)
        self._now[name] = as_name

    def unclear(self, why: str) -> None:
        """Record a reason why the whole graph cannot be followed."""
        self.nodes.append(Node(UNCLEAR, "", "", [], [], {"why": why}))

    def add(self, node: Node, shares: Sequence[int] = (), written: Optional[int] = None, opaque: bool = False) -> None:
        """Add a node.

        shares: the inputs whose memory the outputs may share. written: the input that it writes to. opaque: whether it
        is unknown how it shares memory.
        """
        inputs = [self.current(name) if name else "" for name in node.inputs]
        node = node._replace(inputs=inputs)
        self._own.update(node.outputs)
        if written is not None:
            self._write(node, inputs[written])
            return
        self.nodes.append(node)
        bases = tuple(dict.fromkeys(inputs[index] for index in shares if inputs[index]))
        if node.operator == LIST:
            self._lists[node.outputs[0]] = node
        for name in node.outputs:
            if bases:
                self._views[name] = (node, bases)
            if opaque:
                self._tangled.add(name)
        if opaque:
            self.entangle([name for name in inputs if name])

    def entangle(self, names: Sequence[str]) -> None:
        """Record that unknown tensors may share memory with these."""
        for name in names:
            view = self._view(name)
            if view is not None:
                self.entangle(view[1])
            elif name in self._own or self._outer is None:
                self._tangled.add(name)
            else:
                self._outer.entangle([name])

    def block(self, outputs: Sequence[str], inputs: Sequence[str]) -> Graph:
        """Return what was built as a graph inside another. Its results may share memory with tensors outside."""
        names = [self.current(name) for name in outputs]
        self.entangle(names)
        return Graph(self.nodes, self.constants, [(name, None) for name in inputs], names)

    def replace(self, name: str, new: str) -> None:
        """Use `new` instead of a tensor or list from here on."""
        self._now[name] = new
        self._own.add(new)
        if name not in self._own:
            self.changed[name] = new

    def carried_out(self, results: Dict[str, str]) -> None:
        """Replace tensors that a branch or loop has written to by its results, which share memory with nothing else."""
        self._tangled.difference_update(results.values())
        for name, result in results.items():
            self.replace(name, result)

    def append(self, target: str, more: Sequence[str], out: str) -> None:
        """Append elements to a list."""
        target = self.current(target)
        longer = self.fresh(target)
        items = [self.current(name) for name in more]
        if target in self._lists:
            items = self._lists[target].inputs + items
            self.add(self._lists[target]._replace(inputs=items, outputs=[longer]), range(len(items)))
        else:
            self.nodes.append(Node(APPEND, "", "", [target, *items], [longer], {}))
            self.entangle([target, *items])
        self.replace(target, longer)
        if out:
            self.same(out, target)

    def keep(self, operator: str, target: str) -> None:
        """Record that an operator changes a list, a dict or a tensor, which matters if it is state of the model."""
        name = self.current(target)
        owner = self._owner(name)
        if name in owner._kept:
            why = "%s writes to %s" % (operator, owner._kept[name])
            self.nodes.append(Node(STORED, "", "", [name], [], {"why": why}))

    def items(self, name: str) -> Optional[List[str]]:
        made = self._lists.get(self.current(name))
        return None if made is None else made.inputs

    def fresh(self, name: str) -> str:
        return "%s'%d" % (name.split("'")[0], next(self._numbers))

    def current(self, name: str) -> str:
        """Return the current name of a tensor. Raises TooLarge if there are too many views of views."""
        if next(self._steps) > _MAX_STEPS:
            raise TooLarge
        known = ""
        while name != known:
            known = name
            while name in self._now:
                name = self._now[name]
            if name not in self._own and self._outer is not None:
                name = self._outer.current(name)
        view = self._view(name)
        if view is None:
            return name
        node, bases = view
        now = {base: self.current(base) for base in bases}
        if all(base == found for base, found in now.items()):
            return name
        again = node._replace(
            inputs=[now.get(each, each) for each in node.inputs], outputs=[self.fresh(each) for each in node.outputs]
        )
        self.add(again, [index for index, each in enumerate(again.inputs) if each in now.values()])
        self._now.update(zip(node.outputs, again.outputs))
        return self._now[name]

    def _view(self, name: str) -> Optional[Tuple[Node, Tuple[str, ...]]]:
        scope = self  # type: Optional[Builder]
        while scope is not None:
            if name in scope._views:
                return scope._views[name]
            scope = scope._outer
        return None

    def _owner(self, name: str) -> "Builder":
        return self if name in self._own or self._outer is None else self._outer._owner(name)

    def _write(self, node: Node, target: str) -> None:
        result = self.fresh(target)
        self._own.add(result)
        self.nodes.append(node._replace(outputs=[result]))
        for name in node.outputs:
            self.same(name, target)
        self._store(node, target, result)

    def _store(self, node: Node, name: str, new: str) -> None:
        owner = self._owner(name)
        view = self._view(name)
        if name in owner._tangled or (view is not None and len(view[1]) != 1):
            self.unclear("%s writes to memory that other tensors may share" % node.operator)
        elif view is None:
            self.keep(node.operator, name)
            self.replace(name, self._put(REPLACED, [name, new]))
        else:
            shown, (base,) = view
            even = self._put(AS_ROWS, [base])
            again = [self.fresh(each) for each in shown.outputs]
            self._own.update(again)
            inputs = [even if each == base else each for each in shown.inputs]
            self.nodes.append(shown._replace(inputs=inputs, outputs=again))
            self._store(node, base, self._put(WRITTEN, [even, again[shown.outputs.index(name)], new]))

    def _put(self, operator: str, inputs: List[str]) -> str:
        name = self.fresh(inputs[0])
        self._own.add(name)
        self.nodes.append(Node(operator, "", "", inputs, [name], {}))
        return name
