"""The registry of the rules for ONNX's operators, which lie in `ops`."""

from runtimes.dataflow.walk import Operators

# Operators whose rules follow sizes, or ask for a part of what they are given; of any other, all has to be known.
_SIZED = """
    Shape Size Reshape Flatten Transpose Squeeze Unsqueeze Expand Tile ConstantOfShape Concat Split Slice Gather
    Identity Cast CastLike Add Sub Mul Div Equal Less Greater Not And Or Max Min Mod Where Floor Ceil Neg LessOrEqual
    GreaterOrEqual ReduceProd Resize AffineGrid If Loop Scan
"""
OPERATORS = Operators(
    {},
    never_fail=(
        "Reduce",
        "Arg",
        "Cum",
        "Softmax",
        "LogSoftmax",
        "NonZero",
        "Unique",
        "Dynamic",
        "Slice",
        "Gather",
        "Pad",
    ),
    oldest=7,  # before opset 7 operands were broadcast by other rules
    sized=frozenset(_SIZED.split()),
)
rule = OPERATORS.rule
