"""Finds operations that CNTK executes without checking their inputs, at load and before each run.

For an index outside its table, Gather reads adjacent memory or crashes the process. A model with a dilated convolution
loads, but CNTK refuses each run of it on a CPU.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import cntk
import numpy as np

from runtimes.contract import InvalidInput, LoadError

_OTHER_RUNTIME = 'set runtime = "cntk_onnx" in model.toml'


class _Lookup(NamedTuple):
    """
    indices  the function that computes the indices
    rows     number of rows of the table
    where    describes the operation in error messages
    """

    indices: Any
    rows: int
    where: str


class Lookups:
    """The lookups of a model. Raises LoadError if the indices of one cannot be computed before the model runs."""

    def __init__(self, function: Any) -> None:
        # Reversed, a lookup whose indices depend on another lookup is checked after that one.
        self._lookups = list(_lookups(function, None))[::-1]

    def check(self, feed: Dict[Any, Any]) -> None:
        """Compute and check all indices for these arguments. Raises InvalidInput for one outside its table."""
        for lookup in self._lookups:
            arguments = {variable: value for variable, value in feed.items() if variable in lookup.indices.arguments}
            if len(arguments) < len(lookup.indices.arguments):
                continue  # it is for an output that is not computed
            for row in lookup.indices.eval(arguments):
                indices = np.asarray(row)
                invalid = ~((indices > -1) & (indices < lookup.rows))  # also true for NaN
                if invalid.any():
                    raise InvalidInput(
                        "%s looks up %s in a table of %d rows" % (lookup.where, indices[invalid].flat[0], lookup.rows)
                    )


def _lookups(function: Any, bound: Optional[Dict[str, Any]]) -> Iterator[_Lookup]:
    """Yield the lookups of a function and of the blocks in it.

    bound  in a block: uid of each placeholder → the variable outside that is bound to it
    """
    for each in _functions(function):
        where = "%s, '%s' (uid %s)" % (each.op_name, each.name, each.uid)
        if each.is_block:
            bindings = {placeholder.uid: _outside(value, bound) for placeholder, value in each.block_arguments_mapping}
            yield from _lookups(each.block_root, bindings)
        elif each.op_name == "Convolution" and set(each.attributes.get("dilation", ())) - {1}:
            raise LoadError("%s is dilated, which CNTK does not support on a CPU: %s" % (where, _OTHER_RUNTIME))
        elif each.op_name == "Gather":
            table, indices = each.inputs
            indices = _outside(indices, bound)
            if table.shape[0] < 0 or indices is None:
                raise LoadError("the indices of %s cannot be checked before it runs: %s" % (where, _OTHER_RUNTIME))
            yield _Lookup(cntk.combine([indices]), table.shape[0], where)


def _outside(variable: Any, bound: Optional[Dict[str, Any]]) -> Any:
    """Return the variable outside all blocks; None if it is computed inside a block."""
    if bound is None:
        return variable
    return bound.get(variable.uid, None if variable.is_output or variable.is_placeholder else variable)


def _functions(function: Any) -> List[Any]:
    """Return the primitive functions outside blocks."""
    found = cntk.logging.graph.depth_first_search(function, lambda each: isinstance(each, cntk.Function), depth=0)
    return [each for each in found if each.is_primitive]
