"""What the operators of a .tflite file change, and where they are random."""

from typing import Any, Iterator, List, NamedTuple, Set

from ai_edge_litert import schema_py_generated as schema

from runtimes.contract import BatchAnalysis

_NOT_FOLLOWED = "the rows of a TensorFlow Lite graph are not followed"
_MOST_REASONS = 8
_CODES = schema.BuiltinOperator
_CODE_NAMES = {number: name for name, number in vars(_CODES).items() if not name.startswith("_")}
_WRITES = (_CODES.ASSIGN_VARIABLE, _CODES.HASHTABLE_IMPORT)
_RANDOM = (
    _CODES.RANDOM_UNIFORM,
    _CODES.RANDOM_STANDARD_NORMAL,
    _CODES.MULTINOMIAL,
    _CODES.STABLEHLO_RNG_BIT_GENERATOR,
)
_OPTIONS = {number: name for name, number in vars(schema.BuiltinOptions).items() if not name.startswith("_")}
_OPTIONS_2 = {number: name for name, number in vars(schema.BuiltinOptions2).items() if not name.startswith("_")}


class _Found(NamedTuple):
    mixes: List[str]
    writes: List[str]
    unknown: List[str]


def analyse(content: bytes, subgraph: int, keeps_state: bool) -> BatchAnalysis:
    """Of a signature that runs this subgraph. keeps_state: variable tensors keep what they hold between runs."""
    model = schema.Model.GetRootAs(content)
    found = _Found([], [], [_NOT_FOLLOWED])
    seen: Set[int] = set()
    waiting = [subgraph]
    while waiting:
        number = waiting.pop()
        if number in seen or not 0 <= number < model.SubgraphsLength():
            continue
        seen.add(number)
        graph = model.Subgraphs(number)
        if keeps_state and any(graph.Tensors(index).IsVariable() for index in range(graph.TensorsLength())):
            found.writes.append("a tensor keeps its values from one run to the next")
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            code = model.OperatorCodes(operator.OpcodeIndex())
            # Old files have the first of these alone, which holds no code above 127.
            kind = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
            at = "%s, operator %d of subgraph %d," % (_CODE_NAMES.get(kind, kind), index, number)
            if kind in _WRITES:
                found.writes.append(at + " changes what the next run reads")
            elif kind in _RANDOM:
                found.mixes.append(at + " is random")
            elif kind == _CODES.CUSTOM:
                found.unknown.append(at + " is a custom operator")
            waiting.extend(_called(operator, kind))
    return BatchAnalysis(*(tuple(reasons[:_MOST_REASONS]) for reasons in found))


def _called(operator: Any, kind: int) -> Iterator[int]:
    """The numbers of the subgraphs that an operator runs each time: bodies, conditions, branches.

    CALL_ONCE is left out: what it runs is how the model begins.
    """
    if kind == _CODES.CALL_ONCE:
        return
    for name, table in [
        (_OPTIONS.get(operator.BuiltinOptionsType()), operator.BuiltinOptions()),
        (_OPTIONS_2.get(operator.BuiltinOptions2Type()), operator.BuiltinOptions2()),
    ]:
        options = getattr(schema, name or "", None)
        if table is None or options is None:
            continue
        options = options()
        options.Init(table.Bytes, table.Pos)
        for method in dir(options):
            if method.endswith("SubgraphIndex") or (method == "Subgraph" and name == "CallOptions"):
                yield int(getattr(options, method)())
            elif method == "BranchSubgraphIndices":
                count = options.BranchSubgraphIndicesLength()
                yield from (int(options.BranchSubgraphIndices(place)) for place in range(count))
