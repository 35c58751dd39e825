"""ComputationGraphs: every vertex."""

from typing import Any

from tests.unit.runtimes.dl4j.configurations import convolution, dense, graph, output, preprocessor, recurrent, vertex
from tests.unit.runtimes.dl4j.network import Network


def joined(conf: dict[str, Any], *shapes: tuple[int, ...]) -> Network:
    """Return a graph of this vertex alone, with one input per shape."""
    inputs = {f"in{k}": shape for k, shape in enumerate(shapes)}
    return Network(graph(list(inputs), {"joined": (conf, list(inputs))}, ["joined"]), inputs)


ROW, IMAGE, SEQUENCE = (4, 5), (2, 3, 5, 7), (4, 3, 7)

GRAPH: dict[str, Network] = {
    "merge_rows": joined(vertex("Merge", mergeAxis=1, modified=False), ROW, (4, 3)),
    "merge_images": joined(vertex("Merge", mergeAxis=1, modified=False), IMAGE, (2, 4, 5, 7)),
    "merge_images_nhwc": joined(vertex("Merge", mergeAxis=3, modified=True), (2, 5, 7, 3), (2, 5, 7, 4)),
    "merge_sequences": joined(vertex("Merge", mergeAxis=1, modified=False), SEQUENCE, (4, 2, 7)),
    "merge_unsaid": joined(vertex("Merge"), IMAGE, (2, 4, 5, 7)),
    **{
        f"element_wise_{op.lower()}": joined(vertex("ElementWise", op=op), ROW, ROW, ROW)
        for op in ("Add", "Product", "Average", "Max")
    },
    "element_wise_subtract": joined(vertex("ElementWise", op="Subtract"), ROW, ROW),
    "element_wise_broadcast": joined(vertex("ElementWise", op="Product"), IMAGE, (2, 3, 1, 1)),
    "subset": joined(vertex("Subset", to=3, **{"from": 1}), ROW),
    "subset_image": joined(vertex("Subset", to=1, **{"from": 0}), IMAGE),
    "stack": joined(vertex("Stack"), ROW, ROW),
    "stack_unequal_sequences": joined(vertex("Stack"), SEQUENCE, (4, 3, 5)),
    "unstack": joined(vertex("Unstack", stackSize=3, **{"from": 1}), (6, 5)),
    "scale": joined(vertex("Scale", scaleFactor=0.3), ROW),
    "shift": joined(vertex("Shift", shiftFactor=0.3), ROW),
    "l2": joined(vertex("L2", eps=1e-8), ROW, ROW),
    "l2_images": joined(vertex("L2", eps=1e-8), IMAGE, IMAGE),
    "l2_normalize": joined(vertex("L2Normalize", dimension=[], eps=1e-8), ROW),
    "l2_normalize_image": joined(vertex("L2Normalize", dimension=None, eps=1e-8), IMAGE),
    "reshape": joined(vertex("Reshape", maskShape=None, newShape=[-1, 3, 2], reshapeOrder="c"), (4, 6)),
    "reshape_f": joined(vertex("Reshape", maskShape=None, newShape=[-1, 3, 2], reshapeOrder="f"), (4, 6)),
    "pool_helper": joined(vertex("PoolHelper"), IMAGE),
    "preprocessor_vertex": joined(
        vertex(
            "Preprocessor",
            preProcessor=preprocessor("CnnToFeedForward", format="NCHW", inputHeight=5, inputWidth=7, numChannels=3),
        ),
        IMAGE,
    ),
    "last_step_vertex": joined(vertex("LastTimeStep", maskArrayInputName="in0"), SEQUENCE),
    "reverse_vertex": joined(vertex("ReverseTimeSeries", maskArrayInputName="in0"), SEQUENCE),
    "duplicate_vertex": Network(
        graph(
            ["row", "sequence"],
            {
                "again": (vertex("DuplicateToTimeSeries", inputName="sequence"), ["row"]),
                "both": (vertex("Merge", mergeAxis=1, modified=False), ["sequence", "again"]),
            },
            ["both"],
        ),
        {"row": ROW, "sequence": SEQUENCE},
    ),
    # The saved order differs from the computed one, and parameters follow the saved one.
    # Two inputs through the same weights, the usual purpose of stacking.
    "graph_stacked": Network(
        graph(
            ["one", "other"],
            {
                "both": (vertex("Stack"), ["one", "other"]),
                "shared": (dense(5, 3), ["both"]),
                "first": (vertex("Unstack", stackSize=2, **{"from": 0}), ["shared"]),
                "second": (vertex("Unstack", stackSize=2, **{"from": 1}), ["shared"]),
                "difference": (vertex("ElementWise", op="Subtract"), ["first", "second"]),
            },
            ["difference", "second"],
        ),
        {"one": ROW, "other": ROW},
    ),
    "graph_saved_order": Network(
        graph(
            ["in"],
            {
                "a": (dense(5, 3), ["in"]),
                "b": (dense(5, 3), ["in"]),
                "out": (output(3, 2), ["sum"]),
                "sum": (vertex("ElementWise", op="Add"), ["a", "b"]),
            },
            ["out", "b"],
            ["in", "b", "a", "sum", "out"],
        ),
        {"in": ROW},
    ),
    # Without a saved order, and with more than 16 vertices, a HashSet's order decides.
    "graph_computed_order": Network(
        graph(
            ["in"],
            {
                **{f"d{k}": (dense(5, 3), ["in"]) for k in range(14, 26)},
                "sum": (vertex("ElementWise", op="Add"), [f"d{k}" for k in range(14, 26)]),
                **{f"e{k}": (dense(3, 3), ["sum"]) for k in range(4)},
                "product": (vertex("ElementWise", op="Product"), [f"e{k}" for k in range(4)]),
            },
            ["product"],
        ),
        {"in": ROW},
    ),
    "graph_frozen_vertex": Network(
        graph(["in"], {"half": (vertex("Frozen", underlying=vertex("Scale", scaleFactor=0.5)), ["in"])}, ["half"]),
        {"in": ROW},
    ),
    "graph_image_and_row": Network(
        graph(
            ["image", "row"],
            {
                "seen": (convolution(3, 4, [2, 3], stride=[3, 4]), ["image"]),
                "flat": (
                    vertex(
                        "Preprocessor",
                        preProcessor=preprocessor(
                            "CnnToFeedForward", format="NCHW", inputHeight=2, inputWidth=2, numChannels=4
                        ),
                    ),
                    ["seen"],
                ),
                "both": (vertex("Merge", mergeAxis=1, modified=False), ["flat", "row"]),
                "out": (output(21, 3), ["both"]),
            },
            ["out"],
        ),
        {"image": IMAGE, "row": (2, 5)},
    ),
    "graph_lstm_last_step": Network(
        graph(
            ["in"],
            {
                "lstm": (recurrent("LSTM", 3, 5), ["in"]),
                "last": (vertex("LastTimeStep", maskArrayInputName="in"), ["lstm"]),
                "out": (output(5, 2), ["last"]),
            },
            ["out"],
        ),
        {"in": SEQUENCE},
    ),
}
ATTENTION = {"headSize": 5, "nheads": 2, "ninKeys": 3, "ninQueries": 4, "ninValues": 2, "nout": 7}
GRAPH["attention_vertex"] = joined(
    vertex("Attention", projectInput=True, weightInit="XAVIER", **ATTENTION), (2, 4, 6), (2, 3, 5), (2, 2, 5)
)
GRAPH["attention_vertex_plain"] = joined(
    vertex("Attention", projectInput=False, weightInit="XAVIER", **{**ATTENTION, "nheads": 1}),
    (2, 4, 6),
    (2, 4, 5),
    (2, 2, 5),
)
TO_ROWS, TO_STEPS = (preprocessor(name, rnnDataFormat="NCW") for name in ("RnnToFeedForward", "FeedForwardToRnn"))
# DL4J turns the rows into as many sequences as one input has, not as many as both inputs have.
GRAPH["graph_stacked_steps"] = Network(
    graph(
        ["one", "other"],
        {
            "both": (vertex("Stack"), ["one", "other"]),
            "rows": (vertex("Preprocessor", preProcessor=TO_ROWS), ["both"]),
            "shared": (dense(3, 5), ["rows"]),
            "steps": (vertex("Preprocessor", preProcessor=TO_STEPS), ["shared"]),
            "last": (vertex("LastTimeStep", maskArrayInputName=None), ["steps"]),
        },
        ["last"],
    ),
    {"one": SEQUENCE, "other": SEQUENCE},
)
GRAPH["graph_branches_of_steps"] = Network(
    graph(
        ["in"],
        {
            "one": (vertex("Preprocessor", preProcessor=TO_ROWS), ["in"]),
            "other": (vertex("Preprocessor", preProcessor=TO_ROWS), ["in"]),
            "wide": (dense(3, 5), ["one"]),
            "narrow": (dense(3, 2), ["other"]),
            "both": (vertex("Merge", mergeAxis=1, modified=False), ["wide", "narrow"]),
            "steps": (vertex("Preprocessor", preProcessor=TO_STEPS), ["both"]),
            "lstm": (recurrent("LSTM", 7, 2), ["steps"]),
        },
        ["lstm"],
    ),
    {"in": SEQUENCE},
)
# A layer's own preprocessor, as setInputTypes adds them.
GRAPH["graph_layer_preprocessor"] = Network(graph(["in"], {"out": (output(105, 4), ["in"])}, ["out"]), {"in": IMAGE})
GRAPH["graph_layer_preprocessor"].configuration["vertices"]["out"]["preProcessor"] = preprocessor(
    "CnnToFeedForward", format="NCHW", inputHeight=5, inputWidth=7, numChannels=3
)
