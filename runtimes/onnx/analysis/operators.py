"""The registry of the rules for ONNX's operators. The rules are in `ops`."""

from runtimes.dataflow.walk import Operators

# Operators whose rules follow sizes, or do not need all of their inputs. The inputs of all others must be known.
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
    oldest=7,  # before opset 7, other broadcasting rules applied
    sized=frozenset(_SIZED.split()),
)
rule = OPERATORS.rule
RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
