"""The registry of the rules for TensorFlow Lite's operators, which lie in `ops`."""

from runtimes.dataflow.walk import Operators

OPERATORS = Operators(
    {},
    never_fail=(
        "REDUCE_",
        "SUM",
        "MEAN",
        "ARG_M",
        "CUMSUM",
        "SOFTMAX",
        "LOG_SOFTMAX",
        "WHERE",
        "UNIQUE",
        "SLICE",
        "STRIDED_SLICE",
        "GATHER",
        "PAD",
    ),
)
rule = OPERATORS.rule
