"""Finds the nodes that XNNPACK's operators compute: it knows no nodes, but runs them in the order of the graph."""

from typing import List, Optional, Sequence, Union

# XNNPACK adds and removes these, so a node of them is the less certain one.
_RESHAPES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")
# What XNNPACK calls an operator → the operators of TensorFlow Lite that it may compute.
_KINDS = {
    "Add": ("ADD",),
    "Argmax Pooling": ("ARG_MAX",),
    "Average Pooling": ("AVERAGE_POOL_2D", "MEAN"),
    "Batch Matrix Multiply": ("BATCH_MATMUL",),
    "Clamp": ("RELU", "RELU6", "RELU_N1_TO_1", "MAXIMUM", "MINIMUM"),
    "Concatenate": ("CONCATENATION",),
    "Constant Pad": ("PAD", "PADV2"),
    "Convert": ("QUANTIZE", "DEQUANTIZE", "CAST"),
    "Convolution": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "Copy": _RESHAPES,
    "Deconvolution": ("TRANSPOSE_CONV",),
    "Divide": ("DIV",),
    "Fully Connected": ("FULLY_CONNECTED",),
    "Dynamic Fully Connected": ("FULLY_CONNECTED", "BATCH_MATMUL"),
    "Global Average Pooling": ("MEAN", "AVERAGE_POOL_2D"),
    "Leaky ReLU": ("LEAKY_RELU",),
    "Max Pooling": ("MAX_POOL_2D",),
    "Maximum": ("MAXIMUM",),
    "Mean": ("MEAN",),
    "Minimum": ("MINIMUM",),
    "Multiply": ("MUL",),
    "Negate": ("NEG",),
    "Resize Bilinear": ("RESIZE_BILINEAR",),
    "Sigmoid": ("LOGISTIC",),
    "Slice": ("SLICE", "STRIDED_SLICE"),
    "Softmax": ("SOFTMAX",),
    "Split": ("SPLIT",),
    "Square": ("SQUARE",),
    "Square Root": ("SQRT",),
    "Static Reshape": _RESHAPES,
    "Subtract": ("SUB",),
    "Tanh": ("TANH",),
    "Transpose": ("TRANSPOSE",),
}


def nodes_of(events: Sequence[Union[None, int, str]], operators: Sequence[str]) -> List[Optional[int]]:
    """Return the number of each event's node, or None: as many as possible of the same kind, in the order of the graph.

    Of several nodes that may belong to an event, it is the last, because XNNPACK joins nodes with those before them.

    events     in the order in which they ran: what XNNPACK calls an operator; for one that it did not run, the number
               of its node, or None if it has none
    operators  of all nodes
    """
    # most[i][j]: how many of the events from i on have nodes among those from j on. A certain one counts twice.
    most = [[0] * (len(operators) + 1) for _ in range(len(events) + 1)]
    for i, event in reversed(list(enumerate(events))):
        for j in reversed(range(len(operators))):
            together = _worth(event, j, operators[j]) + most[i + 1][j + 1]
            most[i][j] = max(together, most[i + 1][j], most[i][j + 1])
    found: List[Optional[int]] = []
    node = 0
    for i, event in enumerate(events):
        while node < len(operators) and most[i][node] == most[i][node + 1]:
            node += 1
        worth = _worth(event, node, operators[node]) if node < len(operators) else 0
        if worth and most[i][node] == worth + most[i + 1][node + 1]:
            found.append(node)
            node += 1
        else:
            found.append(None)
    return found


def _worth(event: Union[None, int, str], node: int, operator: str) -> int:
    if isinstance(event, str):
        fits = operator in _KINDS.get(event.partition(" (")[0], ())
    else:
        fits = event == node
    return (1 if operator in _RESHAPES else 2) if fits else 0
