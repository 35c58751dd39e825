"""The registry of the rules for MXNet's operators, which lie in `ops`."""

from runtimes.dataflow.walk import Operators

OPERATORS = Operators(
    {},
    never_fail=(
        "sum",
        "mean",
        "max",
        "min",
        "arg",
        "softmax",
        "log_softmax",
        "sort",
        "cumsum",
        "slice_axis",
        "_contrib_box_nms",
    ),
)
rule = OPERATORS.rule
