"""The registry of the rules for TensorFlow Lite's operators. The rules are in `ops`."""

from runtimes.dataflow.walk import Operators

# Operators whose rules follow sizes, or do not need all of their inputs. The inputs of all others must be known.
_SIZED = """
    SHAPE RANK RESHAPE SQUEEZE EXPAND_DIMS TRANSPOSE BROADCAST_TO BROADCAST_ARGS TILE FILL RANGE REDUCE_PROD
    CONCATENATION PACK UNPACK SPLIT SPLIT_V SLICE STRIDED_SLICE GATHER SELECT SELECT_V2 CAST ADD SUB MUL DIV FLOOR_DIV
    FLOOR_MOD EQUAL NOT_EQUAL LESS LESS_EQUAL GREATER GREATER_EQUAL LOGICAL_NOT LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM
    FLOOR CEIL NEG TRANSPOSE_CONV CONV_3D_TRANSPOSE IF WHILE CALL STABLEHLO_COMPOSITE
"""
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
    sized=frozenset(_SIZED.split()),
)
rule = OPERATORS.rule
RANDOM = ("RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL", "STABLEHLO_RNG_BIT_GENERATOR")
