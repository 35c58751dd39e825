"""What CNTK computes without a look at whether it can: looked for when a model is loaded, and before it runs.

Gather reads whatever lies beside its table in memory for a number that is none of its rows, or ends the process.
A dilated convolution loads, and is refused by each run on a CPU.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import cntk
import numpy as np

from runtimes.contract import InvalidInput, LoadError

_OTHER_RUNTIME = 'set runtime = "cntk_onnx" in model.toml'


class _Lookup(NamedTuple):
    """indices: the function that computes them; rows: of the table that they are looked up in."""

    indices: Any
    rows: int
    where: str


class Lookups:
    """Of one model. Raises LoadError for those whose indices cannot be known before it runs."""

    def __init__(self, function: Any) -> None:
        self._found = list(_lookups(function, None))[::-1]  # what is read of others after them

    def check(self, given: Dict[Any, Any]) -> None:
        """given: what the model's arguments are. Raises InvalidInput for an index beyond its table."""
        for lookup in self._found:
            feed = {variable: value for variable, value in given.items() if variable in lookup.indices.arguments}
            for row in lookup.indices.eval(feed):
                indices = np.asarray(row)
                wrong = ~((indices > -1) & (indices < lookup.rows))  # of NaN too
                if wrong.any():
                    raise InvalidInput(
                        "%s looks up %s in a table of %d rows" % (lookup.where, indices[wrong].flat[0], lookup.rows)
                    )


def _lookups(function: Any, bound: Optional[Dict[str, Any]]) -> Iterator[_Lookup]:
    """Those of a function and of the blocks in it; bound: in a block, what its placeholders stand for, by uid."""
    for each in _functions(function):
        where = "%s, '%s' (uid %s)" % (each.op_name, each.name, each.uid)
        if each.is_block:
            bindings = {given.uid: _outside(value, bound) for given, value in each.block_arguments_mapping}
            yield from _lookups(each.block_root, bindings)
        elif each.op_name == "Convolution" and set(each.attributes.get("dilation", ())) - {1}:
            raise LoadError("%s is dilated, which CNTK does not compute on a CPU: %s" % (where, _OTHER_RUNTIME))
        elif each.op_name == "Gather":
            table, indices = each.inputs
            indices = _outside(indices, bound)
            if table.shape[0] < 0 or indices is None:
                raise LoadError("what %s looks up cannot be checked before it runs: %s" % (where, _OTHER_RUNTIME))
            yield _Lookup(cntk.combine([indices]), table.shape[0], where)


def _outside(variable: Any, bound: Optional[Dict[str, Any]]) -> Any:
    """The variable that can be computed by itself; None for what is computed within a block."""
    if bound is None:
        return variable
    return bound.get(variable.uid, None if variable.is_output or variable.is_placeholder else variable)


def _functions(function: Any) -> List[Any]:
    """What is not inside of blocks."""
    found = cntk.logging.graph.depth_first_search(function, lambda each: isinstance(each, cntk.Function), depth=0)
    return [each for each in found if each.is_primitive]
