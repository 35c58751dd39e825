"""Finds the operators of a .tflite file that change state."""

from typing import Iterator, List, Set

from ai_edge_litert import schema_py_generated as schema

from .file import CODES, kind_of, options_of

_WRITES = (schema.BuiltinOperator.ASSIGN_VARIABLE, schema.BuiltinOperator.HASHTABLE_IMPORT)


def writes(content: bytes, subgraph: int, keeps_state: bool) -> List[str]:
    """Return the reasons why running this subgraph changes state.

    keeps_state  whether variable tensors keep their values between runs
    """
    model = schema.Model.GetRootAs(content)
    found: List[str] = []
    seen: Set[int] = set()
    stack = [subgraph]
    while stack:
        number = stack.pop()
        if number in seen or not 0 <= number < model.SubgraphsLength():
            continue
        seen.add(number)
        graph = model.Subgraphs(number)
        if keeps_state and any(graph.Tensors(index).IsVariable() for index in range(graph.TensorsLength())):
            found.append("a tensor keeps its values from one run to the next")
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            kind = kind_of(model.OperatorCodes(operator.OpcodeIndex()))
            if kind in _WRITES:
                at = "%s, operator %d of subgraph %d," % (CODES[kind], index, number)
                found.append(at + " changes what the next run reads")
            # CALL_ONCE only runs when the model is initialized.
            if kind != schema.BuiltinOperator.CALL_ONCE:
                stack.extend(_called(options_of(operator)))
    return found


def _called(options: dict) -> Iterator[int]:
    """Yield the indices of the subgraphs that an operator runs: bodies, conditions and branches."""
    for name, value in options.items():
        if name.endswith("SubgraphIndex") or name == "Subgraph":
            yield int(value)
        elif name == "BranchSubgraphIndices":
            yield from map(int, value)
