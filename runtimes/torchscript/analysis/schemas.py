"""What the schemas of operators say: which inputs they write to, and which share their memory with the results."""

from functools import lru_cache
from typing import Any, NamedTuple, Tuple

import torch

# Operators whose outputs share the memory of their inputs, although no schema says so.
VIEWS = (
    "prim::ListUnpack prim::TupleUnpack prim::TupleIndex prim::TupleSlice prim::unchecked_cast aten::__getitem__ "
    "aten::split aten::split_with_sizes aten::chunk "
    "aten::unbind aten::tensor_split aten::hsplit aten::vsplit aten::dsplit aten::unsafe_chunk aten::unsafe_split"
).split()


class Operator(NamedTuple):
    """The relevant part of an operator's schema.

    shares     the inputs whose memory the results share
    written    the inputs that it writes to
    list_like  whether it writes to something other than a tensor
    """

    names: Tuple[str, ...]
    shares: Tuple[int, ...]
    written: Tuple[int, ...]
    list_like: bool


def operator_of(schema: Any) -> Operator:
    """schema: as text, or as PyTorch has parsed it."""
    return _parsed(schema) if isinstance(schema, str) else _operator(schema)


@lru_cache(maxsize=None)
def _parsed(schema: str) -> Operator:
    return _operator(torch._C.parse_schema(schema))


def _operator(schema: Any) -> Operator:
    arguments = schema.arguments
    shared = set()  # type: Any
    for result in schema.returns:
        shared |= result.alias_info.before_set if result.alias_info is not None else set()
    sets = [argument.alias_info.before_set if argument.alias_info is not None else set() for argument in arguments]
    written = [n for n, each in enumerate(arguments) if each.alias_info is not None and each.alias_info.is_write]
    return Operator(
        tuple(argument.name for argument in arguments),
        tuple(index for index, aliases in enumerate(sets) if aliases & shared),
        tuple(written),
        bool(written) and arguments[written[0]].type.kind() != "TensorType",
    )


def shared_input(node: Any) -> Any:
    """Return the input of a node of TorchScript whose memory its results share; None if they share none.

    Of several inputs, it is the first.
    """
    inputs = list(node.inputs())
    if node.kind() in VIEWS:
        return inputs[0]
    if node.schema() == "(no schema)":
        return None
    shares = operator_of(node.schema()).shares
    return inputs[shares[0]] if shares else None
