"""A graph in which nothing is written in place, of one in which tensors are, and share their memory.

Each operator that writes gets a result of its own, and every later use of a tensor that shares the memory is led to
it: a view is made once more, of what is written to. What cannot be led so is said to be unclear.
"""

import itertools
from typing import Dict, List, Optional, Sequence, Tuple

from runtimes.dataflow.graph import Graph, Node, Tensor
from runtimes.dataflow.walk import TooLarge

from .operators import APPEND, AS_ROWS, LIST, REPLACED, STORED, UNCLEAR, WRITTEN

_MAX_STEPS = 1000000  # over all blocks: seconds


class Builder:
    def __init__(self, outer: "Optional[Builder]" = None) -> None:
        self.nodes = []  # type: List[Node]
        self.constants = []  # type: List[Tensor]
        self._outer = outer
        self._numbers = itertools.count() if outer is None else outer._numbers  # type: Any
        self._steps = itertools.count() if outer is None else outer._steps  # type: Any
        self._own = set()  # type: Set[str]
        self._now = {}  # type: Dict[str, str]  # what stands for a tensor since it was written to
        self._views = {}  # type: Dict[str, Tuple[Node, Tuple[str, ...]]]  # and whose memory each shows
        self._lists = {}  # type: Dict[str, Node]  # what made them
        self._kept = {}  # type: Dict[str, str]  # what lives from call to call
        self._tangled = set()  # type: Set[str]  # may share memory in ways that are not followed
        self.changed = {}  # type: Dict[str, str]  # what was written to of the graphs around this one; what stands for it

    def constant(self, tensor: Tensor, kept: str = "") -> None:
        """kept: what a write to it changes."""
        self.constants.append(tensor)
        self.define(tensor.name, kept)

    def define(self, name: str, kept: str = "", tangled: bool = False) -> None:
        self._own.add(name)
        if kept:
            self._kept[name] = kept
        if tangled:
            self._tangled.add(name)

    def same(self, name: str, as_name: str) -> None:
        """Two names of one thing."""
        self._own.add(name)
        self._now[name] = as_name

    def unclear(self, why: str) -> None:
        self.nodes.append(Node(UNCLEAR, "", "", [], [], {"why": why}))

    def add(self, node: Node, shares: Sequence[int] = (), written: Optional[int] = None, opaque: bool = False) -> None:
        """shares: which inputs' memory the outputs may show. opaque: how it shares memory is not known."""
        inputs = [self.current(name) if name else "" for name in node.inputs]
        node = node._replace(inputs=inputs)
        self._own.update(node.outputs)
        if written is not None:
            self._write(node, inputs[written])
            return
        self.nodes.append(node)
        bases = tuple(dict.fromkeys(inputs[place] for place in shares if inputs[place]))
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
        """What these show may be shown by others, too."""
        for name in names:
            view = self._view(name)
            if view is not None:
                self.entangle(view[1])
            elif name in self._own or self._outer is None:
                self._tangled.add(name)
            else:
                self._outer.entangle([name])

    def block(self, outputs: Sequence[str], inputs: Sequence[str]) -> Graph:
        """What was put in here, as a graph inside another. Its results may show what is outside."""
        names = [self.current(name) for name in outputs]
        self.entangle(names)
        return Graph(self.nodes, self.constants, [(name, None) for name in inputs], names)

    def replace(self, name: str, new: str) -> None:
        """A tensor, or a list, is `new` from here on."""
        self._now[name] = new
        self._own.add(new)
        if name not in self._own:
            self.changed[name] = new

    def carried_out(self, results: Dict[str, str]) -> None:
        """Of a branch or loop that writes to what is around it; nothing else shows these."""
        self._tangled.difference_update(results.values())
        for name, result in results.items():
            self.replace(name, result)

    def append(self, target: str, more: Sequence[str], out: str) -> None:
        """To a list."""
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

    def items(self, name: str) -> Optional[List[str]]:
        made = self._lists.get(self.current(name))
        return None if made is None else made.inputs

    def fresh(self, name: str) -> str:
        return "%s'%d" % (name.split("'")[0], next(self._numbers))

    def current(self, name: str) -> str:
        """What stands for a tensor now. Raises TooLarge where tensors show each other in too many ways."""
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
        self.add(again, [place for place, each in enumerate(again.inputs) if each in now.values()])
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
            self.unclear("%s writes to what other tensors may show" % node.operator)
        elif view is None:
            if name in owner._kept:
                why = "%s writes to %s" % (node.operator, owner._kept[name])
                self.nodes.append(Node(STORED, "", "", [new], [], {"why": why}))
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
