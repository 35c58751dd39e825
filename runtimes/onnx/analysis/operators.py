"""The registry of the rules for ONNX's operators, which lie in `ops`."""

from runtimes.dataflow.walk import Operators

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
)
rule = OPERATORS.rule
