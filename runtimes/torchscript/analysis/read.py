"""Analyzes whether the rows of a PyTorch model's inputs influence each other."""

import itertools
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

from runtimes.contract import BatchAnalysis, first_line
from runtimes.dataflow.graph import Model
from runtimes.dataflow.sizes import fresh, has_rows
from runtimes.dataflow.values import Value, constant, operator_label, unsure
from runtimes.dataflow.walk import TooLarge, batch_analysis, batch_input

from . import export, ops, script, state  # noqa: F401  ops: registers the rules
from .guards import accepted_rows
from .operators import NONE, OPERATORS, Items, TorchWalk

# Combinations of more inputs that may be left out are not analyzed.
_MAX_OPTIONAL = 3


def of_optional(module: Any, slots: Sequence[Any]) -> BatchAnalysis:
    """Analyze a TorchScript module with and without the inputs that requests may leave out. slots: see arguments.py."""
    lacking = [slot for slot in slots if slot.optional]
    everything = of_scripted(module, _given(slots, ()))
    listed = ["input '%s' is a list, whose length may matter" % slot.spec.name for slot in slots if slot.kind == "list"]
    everything = everything._replace(mixes=everything.mixes + tuple(listed))
    if not lacking:
        return everything
    found = [everything]
    if len(lacking) <= _MAX_OPTIONAL:
        subsets = itertools.chain(*(itertools.combinations(lacking, count + 1) for count in range(len(lacking))))
        found += [of_scripted(module, _given(slots, left_out)) for left_out in subsets]
    mixes = [reason for each in found for reason in each.mixes]
    if len(found) == 1 or any(each.unknown for each in found[1:]):
        # A trial gives all inputs, and shows nothing of what happens without them.
        mixes.append("it is not followed what happens without input '%s'" % lacking[0].spec.name)
    return everything._replace(
        mixes=tuple(dict.fromkeys(mixes)),
        writes=tuple(dict.fromkeys(reason for each in found for reason in each.writes)),
        random=next((each.random for each in found if each.random), ""),
    )


def _given(slots: Sequence[Any], left_out: Sequence[Any]) -> List[Tuple[str, Any]]:
    """Return what each argument gets: a declaration, those of its elements, or None for a dict of them."""
    given: Dict[str, Any] = {}
    for slot in slots:
        if any(slot is each for each in left_out):
            continue
        if slot.key is None:
            given[slot.argument.name] = slot.spec if slot.kind != "list" else None
        elif isinstance(slot.key, str):
            given[slot.argument.name] = None
        else:
            given.setdefault(slot.argument.name, []).append(slot.spec)
    return list(given.items())


def of_scripted(module: Any, specs: Sequence[Tuple[str, Any]], names: Sequence[str] = ()) -> BatchAnalysis:
    """Analyze a TorchScript module.

    specs: for each argument of `forward` that gets a value, its declaration, a list of those of its elements, or None
    if it is not followed. names: the names of the outputs by position, for the reasons.
    """
    inlined = module.inlined_graph

    def analyze_rows() -> BatchAnalysis:
        graph, arguments = script.Reader(module).graph(inlined)
        walk = TorchWalk(Model(graph, {}, {}), OPERATORS)
        declared, inputs = dict(specs), {}  # type: Dict[str, Any], Dict[str, Any]
        for name, argument in zip(arguments, module.forward.schema.arguments[1:]):
            if argument.name in declared:
                inputs[name] = _input(walk, operator_label("input", argument.name), declared[argument.name])
            else:
                inputs[name] = _default(argument)
        results = walk.graph(graph, None, inputs)
        return batch_analysis(walk, _named(results, names), walk.unclear)

    return _with_rows(state.of_scripted(inlined), analyze_rows)


def of_exported(exported: Any, names: Sequence[str]) -> BatchAnalysis:
    """Analyze an exported program. names: the served name of each result, "" for those that are not served."""

    def analyze_rows() -> BatchAnalysis:
        graph, sizes = export.Reader(exported).graph()
        walk = ExportedWalk(Model(graph, {}, {}), exported, sizes)
        results = walk.graph(graph, None, walk.inputs)
        found = batch_analysis(walk, {name: value for name, value in zip(names, results) if name}, walk.unclear)
        return found._replace(max_rows=walk.max_rows)

    return _with_rows(state.of_exported(exported), analyze_rows)


def _with_rows(found: BatchAnalysis, analyze_rows: Callable[[], BatchAnalysis]) -> BatchAnalysis:
    """Add the analysis of the rows to that of the state, which is known even if the rows cannot be followed."""
    try:
        return state.joined(found, analyze_rows())
    except (TooLarge, RecursionError):
        why = "the graph is too large to be followed"
    except Exception as error:  # PyTorch raises anything
        print("the graph cannot be followed: %s: %s" % (type(error).__name__, first_line(error)))
        why = "the graph cannot be followed"
    return state.joined(found, BatchAnalysis(unknown=(why,)), whole=False)


def _input(walk: TorchWalk, label: str, declared: Any) -> Any:
    if isinstance(declared, list):
        return Items(tuple(_input(walk, label, each) for each in declared))
    if declared is None:
        walk.unclear.append("%s is not followed" % label)
        return unsure(walk.unclear[-1])
    sizes = None if declared.shape is None else [None if size < 0 else size for size in declared.shape]
    value, why = batch_input(label, sizes)
    walk.unclear.extend([why] if why else [])
    return value


def _default(argument: Any) -> Any:
    """Return the value of an argument that does not come from the request."""
    value = argument.default_value
    if not argument.has_default_value() and argument.type.kind() == "ListType":
        return Items(())
    if value is None:
        return NONE
    if isinstance(value, (bool, int, float, str)):
        return constant([], [value])
    return unsure("%s is not followed" % operator_label("argument", argument.name))


def _named(results: Sequence[Any], names: Sequence[str]) -> Dict[str, Value]:
    """Return the results by name, with those inside of others, but without None."""
    found = list(_flat(results))
    known = list(names) if len(names) == len(found) else ["OUTPUT__%d" % index for index in range(len(found))]
    return {name: value for name, value in zip(known, found) if value != NONE}


def _flat(results: Sequence[Any]) -> Iterator[Value]:
    for value in results:
        if isinstance(value, Items):
            yield from _flat(value.items)
        else:
            yield value


class ExportedWalk(TorchWalk):
    """Checks the sizes that the analysis finds against those that the export has recorded for each tensor."""

    def __init__(self, model: Model, exported: Any, sizes: Dict[str, List[Any]]) -> None:
        super().__init__(model, OPERATORS)
        self._symbols = {}  # type: Dict[str, Any]
        first = {shape[0] for shape in sizes.values() if shape and isinstance(shape[0], str)}
        self._batch = first
        self.inputs = {}  # type: Dict[str, Value]
        for name, shape in sizes.items():
            value, why = batch_input(operator_label("input", name), list(shape), first)
            if not why and not str(shape[0]).isidentifier():
                why = "%s has another number of rows than others" % operator_label("input", name)
                value = unsure(why)
            if why:
                self.unclear.append(why)
            elif value.dims is not None:
                value = value._replace(dims=value.dims[:1] + tuple(self._size(size) for size in shape[1:]))
            self.inputs[name] = value
        self.max_rows, others = accepted_rows(exported, first)
        self.unclear.extend(others)
        if not sizes:
            self.unclear.append("the signature has no inputs")

    def _size(self, size: Any) -> Any:
        return size if isinstance(size, int) else self._symbols.setdefault(size, fresh())

    def _results(self, node: Any, scope: Any) -> List[Any]:
        results = super()._results(node, scope)
        shape = node.attributes.get("shape")
        if shape is None or len(results) != 1 or isinstance(results[0], Items):
            return results
        return [self._checked(node, results[0], shape)]

    def _checked(self, node: Any, value: Value, shape: List[Any]) -> Value:
        if value.tainted:
            return value
        counted = [isinstance(size, str) and self._has_batch(size) for size in shape]
        if value.dims is None:
            return value._replace(dims=tuple(map(self._size, shape))) if not any(counted) else self._wrong(node)
        if [has_rows(size) for size in value.dims] != counted:
            return self._wrong(node)
        if any(isinstance(old, int) and isinstance(size, int) and old != size for old, size in zip(value.dims, shape)):
            return self._wrong(node)
        dims = tuple(old if rows else self._size(size) for old, size, rows in zip(value.dims, shape, counted))
        return value._replace(dims=dims)

    def _has_batch(self, size: str) -> bool:
        words = "".join(character if character.isalnum() or character == "_" else " " for character in size).split()
        return bool(self._batch & set(words))

    def _wrong(self, node: Any) -> Value:
        return unsure("the sizes of %s are not followed" % operator_label(node.operator, node.name))
