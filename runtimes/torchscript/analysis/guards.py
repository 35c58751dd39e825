"""Reads which numbers of rows an exported program accepts: from its dimensions' bounds, and from its guards."""

import ast
import re
from typing import Any, Callable, List, Optional, Set, Tuple

# An export that allows this many rows counts as unlimited, since no batch is larger.
_MANY_ROWS = 1024
_ROWS = re.compile(r"L(?:\['?\w+'?\])+\.size\(\)\[0\]")
_ALLOWED = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Load, ast.Add, ast.Sub, ast.Mult,
    ast.FloorDiv, ast.Mod, ast.USub, ast.cmpop,
)  # fmt: skip
_MAX_LENGTH = 80  # characters of a guard in a reason


def accepted_rows(exported: Any, symbols: Set[str]) -> Tuple[Optional[int], List[str]]:
    """Return the maximum number of rows, and what else is required of the number of rows.

    symbols: the sizes of the inputs' first dimensions
    """
    bounds = [each for symbol, each in exported.range_constraints.items() if str(symbol) in symbols]
    limits = [int(each.upper) for each in bounds if each.upper < _MANY_ROWS]
    # Exports set a minimum of 2 for every variable size.
    others = ["the export allows %s rows at least" % each.lower for each in bounds if each.lower > 2]
    for guard in getattr(exported, "_guards_code", None) or ():  # older exports do not record them
        if not _ROWS.search(guard):
            continue
        refused = _refused(guard)
        if refused is None or (refused and refused != list(range(refused[0], _MANY_ROWS + 1))) or 1 in refused:
            text = "".join(filter(str.isprintable, re.sub(r"L\['(\w+)'\]", r"\1", guard)))
            others.append("the export needs %s" % text[:_MAX_LENGTH])
        elif refused:
            limits.append(refused[0] - 1)
    return min(limits) if limits else None, others


def _refused(guard: str) -> Optional[List[int]]:
    """Return the numbers of rows that a guard refuses, or None if it depends on something else as well."""
    holds = _compiled(_ROWS.sub("rows", guard))
    try:
        return None if holds is None else [rows for rows in range(1, _MANY_ROWS + 1) if not holds(rows)]
    except ArithmeticError:
        return None


def _compiled(condition: str) -> Optional[Callable[[int], Any]]:
    """Return the condition as a function of "rows", or None if it is more than arithmetic."""
    try:
        tree = ast.parse(condition.strip(), mode="eval")
        if not all(map(_is_arithmetic, ast.walk(tree))):
            return None
        code = compile(tree, "guard", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return lambda rows: eval(code, {"__builtins__": {}}, {"rows": rows})


def _is_arithmetic(node: ast.AST) -> bool:
    whole = not isinstance(node, ast.Constant) or isinstance(node.value, int)
    return isinstance(node, _ALLOWED) and whole and getattr(node, "id", "rows") == "rows"
