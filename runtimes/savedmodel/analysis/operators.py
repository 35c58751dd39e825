"""The registry of the rules for TensorFlow's operators. The rules are in `ops`."""

from typing import Any, Callable, List, Optional

from runtimes.dataflow.graph import Reference
from runtimes.dataflow.sizes import MAX_DIMENSIONS, Product, fresh, has_rows, times
from runtimes.dataflow.values import MAX_CONTENTS, Value, repeats
from runtimes.dataflow.walk import Call, Operators, Rule

from .graph import PIVOTS, SHAPES

# Operators whose rules follow sizes, or do not need all of their inputs. The inputs of all others must be known.
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

# Markers in the contents of values that are not tensors.
TABLE = "a table of scalars"  # each key has a single value
EMPTY = "a list without elements"  # its only dimension is its capacity
DEAD = "a branch that is not taken"


def rule(*names: str) -> Callable[[Rule], Rule]:
    """As `Operators.rule`, but adds the sizes that TensorFlow has inferred, and propagates dead branches."""

    def register(function: Rule) -> Rule:
        def applied(call: Call) -> Any:
            if any(isinstance(value, Reference) for value in call.node.attributes.values()):
                raise ValueError("an attribute is not known")
            needed = call.present + [call.scope[name] for name in call.attribute(PIVOTS, ())]
            if not call.node.operator.endswith("Merge") and any(is_a(value, DEAD) for value in needed):
                return [marked(DEAD)] * len(call.node.outputs)
            results = function(call)
            several = results if isinstance(results, list) else [results]
            shapes = (call.attribute(SHAPES) or [])[-len(call.node.outputs) :]  # any in the file itself come first
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
    """Replace unknown sizes by static ones, except those that depend on the number of rows."""
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
    """Return a small constant with contents, each of which may be unknown; other values are returned as they are."""
    if value.tainted or value.has_rows or value.contents is not None or value.dims is None or repeats(value):
        return value
    count = times(*value.dims)
    few = isinstance(count, int) and count <= MAX_CONTENTS
    return value._replace(contents=(None,) * count) if few and isinstance(count, int) else value
