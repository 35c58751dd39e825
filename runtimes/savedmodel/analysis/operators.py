"""The registry of the rules for TensorFlow's operators, which lie in `ops`."""

from typing import Any, Callable, List, Optional

from runtimes.dataflow.graph import Reference
from runtimes.dataflow.sizes import MAX_DIMENSIONS, Product, fresh, has_rows, times
from runtimes.dataflow.values import MAX_CONTENTS, Value, repeats
from runtimes.dataflow.walk import Call, Operators, Rule

from .graph import PIVOTS, SHAPES

# Operators whose rules follow sizes, or ask for a part of what they are given; of any other, all has to be known.
_SIZED = """
    Shape ShapeN VariableShape Size Rank Reshape Transpose ConjugateTranspose ExpandDims Squeeze Pack Unpack
    BroadcastTo BroadcastArgs Tile Fill ZerosLike OnesLike Range Concat ConcatV2 Split SplitV Slice StridedSlice
    Gather GatherV2 Add AddV2 Sub Mul Div RealDiv FloorDiv TruncateDiv FloorMod Mod Equal Less Greater LogicalNot
    LogicalAnd LogicalOr Maximum Minimum Select SelectV2 Floor Ceil LessEqual GreaterEqual NotEqual Neg AddN
    AccumulateNV2 ClipByValue Identity IdentityN StopGradient PreventGradient Snapshot EnsureShape DeepCopy
    DebugIdentity DebugIdentityV2 DebugIdentityV3 PlaceholderWithDefault GuaranteeConst Cast All Any Max Min Prod
    Sum PartitionedCall StatefulPartitionedCall If StatelessIf Case StatelessCase While StatelessWhile Switch
    RefSwitch Merge RefMerge TensorListReserve EmptyTensorList TensorListFromTensor TensorListGetItem
    TensorListSetItem TensorListPushBack TensorListPopBack TensorListStack TensorListLength Conv2DBackpropInput
    Conv3DBackpropInputV2
"""
OPERATORS = Operators(
    {},
    never_fail=(
        "All", "Any", "Arg", "Cum", "EuclideanNorm", "Gather", "LogSoftmax", "Max", "Mean", "Min", "Pad", "Prod",
        "Slice", "Softmax", "StridedSlice", "Sum", "TopK", "Unique", "Where",
    ),
    sized=frozenset(_SIZED.split()),
)  # fmt: skip

# What stands in a resource's or a list's contents for what it is.
TABLE = "a table of scalars"  # each key has one value, wherever it stands
EMPTY = "a list without elements"  # its only size is how many it may hold
DEAD = "a branch that is not taken"


def rule(*names: str) -> Callable[[Rule], Rule]:
    """As `Operators.rule`. TensorFlow's own inference says more of the sizes, and a dead branch stays dead."""

    def register(function: Rule) -> Rule:
        def applied(call: Call) -> Any:
            if any(isinstance(value, Reference) for value in call.node.attributes.values()):
                raise ValueError("an attribute is not known")
            needed = call.present + [call.scope[name] for name in call.attribute(PIVOTS, ())]
            if not call.node.operator.endswith("Merge") and any(is_a(value, DEAD) for value in needed):
                return [marked(DEAD)] * len(call.node.outputs)
            results = function(call)
            several = results if isinstance(results, list) else [results]
            shapes = (call.attribute(SHAPES) or [])[-len(call.node.outputs) :]  # behind those that the file has
            shapes = shapes + [None] * (len(several) - len(shapes))
            return [_narrowed(value, shape) for value, shape in zip(several, shapes)]

        OPERATORS.rule(*names)(applied)
        return function

    return register


def marked(mark: str, size: Any = None) -> Value:
    return Value(None if size is None else (size,), contents=(mark,))


def is_a(value: Value, mark: str) -> bool:
    return value.contents == (mark,)


def _narrowed(value: Value, shape: Optional[List[Optional[int]]]) -> Value:
    """With the sizes that are known for all inputs, but for those that the number of rows has a part in."""
    if shape is None or value.tainted or len(shape) > MAX_DIMENSIONS or is_a(value, EMPTY):
        return value
    if value.dims is None:
        plain = not value.has_rows and value.contents is None
        return value._replace(dims=tuple(fresh() if size is None else size for size in shape)) if plain else value
    if len(shape) != len(value.dims):
        return value
    dims = [
        size if static is None or not isinstance(size, Product) or has_rows(size) else static
        for size, static in zip(value.dims, shape)
    ]
    return value._replace(dims=tuple(dims))


def spelled(value: Value) -> Value:
    """A small constant with contents, of which each may be unknown."""
    if value.tainted or value.has_rows or value.contents is not None or value.dims is None or repeats(value):
        return value
    count = times(*value.dims)
    few = isinstance(count, int) and count <= MAX_CONTENTS
    return value._replace(contents=(None,) * count) if few and isinstance(count, int) else value
