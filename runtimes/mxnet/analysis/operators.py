"""The registry of the rules for MXNet's operators. The rules are in `ops`."""

from runtimes.dataflow.walk import Operators

# Operators whose rules follow sizes, or do not need all of their inputs. The inputs of all others must be known.
_SIZED = """
    shape_array Reshape _np_reshape _npi_reshape reshape_like Flatten transpose _np_transpose SwapAxis expand_dims
    squeeze _np_squeeze tile slice slice_axis Concat concat stack SliceChannel split _split_v2 take SoftmaxOutput
    LinearRegressionOutput LogisticRegressionOutput MAERegressionOutput SVMOutput _contrib_MultiBoxPrior
    _contrib_arange_like
"""
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
    sized=frozenset(_SIZED.split()),
)
rule = OPERATORS.rule
