"""An ONNX file that is finished: written so that every ONNX Runtime computes what the graph says.

ONNX Runtime's optimizer Pad_Fusion (on by default; seen up to 1.31.1) makes a Pad of zeros part of the pooling after
it. Zeros win over negative values in a MaxPool, and its own padding never does, so the answer changes. The runtime
here leaves that optimizer out; programs of other people do not. A pooling is not touched by it that says that it is
not padded (auto_pad = VALID), or that also gives the indices of what it chose.
"""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.generated import onnx_graph_pb2 as pb

_STRING = 3  # of ONNX's AttributeProto.AttributeType
# What the optimizer looks through, or other optimizers move or remove.
_BETWEEN = ("Cast", "Identity", "Transpose", "Dropout")
Nodes = list[pb.Node]


def keep_padding(path: Path) -> None:
    """Change the file where a pooling may be fused with a Pad; else leave it alone."""
    if not _may_have_both(path):
        return
    model = pb.Model.FromString(path.read_bytes())
    bodies = [*_bodies(model.graph.node), *(body for each in model.functions for body in _bodies(each.node))]
    if not any(node.op_type == "Pad" for body in bodies for node in body):
        return
    changed = [_kept(node, body) for body in bodies for node in body]  # all of them, not up to the first
    if any(changed):
        path.write_bytes(model.SerializeToString())


def _may_have_both(path: Path) -> bool:
    """Without reading it as a whole, which may be 2 GB of weights."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"Pad") >= 0 and (content.find(b"MaxPool") >= 0 or content.find(b"AveragePool") >= 0)


def _bodies(nodes: Iterable[pb.Node]) -> Iterator[Nodes]:
    """These nodes, and those of each graph within them."""
    body = list(nodes)
    yield body
    for node in body:
        for attribute in node.attribute:
            for graph in [attribute.g, *attribute.graphs]:
                if graph.node:
                    yield from _bodies(graph.node)


def _kept(node: pb.Node, body: Nodes) -> bool:
    """Whether this node was changed."""
    if node.op_type not in ("MaxPool", "AveragePool") or node.domain not in ("", "ai.onnx"):
        return False
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if "auto_pad" in attributes and attributes["auto_pad"].s != b"NOTSET":
        return False
    padded = "pads" in attributes and any(attributes["pads"].ints)
    # What VALID means for a size that is rounded up, runtimes do not agree on.
    if not padded and not ("ceil_mode" in attributes and attributes["ceil_mode"].i):
        kept = [each for each in node.attribute if each.name not in ("pads", "auto_pad")]
        del node.attribute[:]
        node.attribute.extend([*kept, pb.Attribute(name="auto_pad", s=b"VALID", type=_STRING)])
        return True
    if node.op_type == "MaxPool" and len(node.output) == 1 and _comes_from_pad(node, body):
        name, taken = f"{node.output[0]}_indices", {name for each in body for name in [*each.input, *each.output]}
        while name in taken:
            name += "_"
        node.output.append(name)
        return True
    return False


def _comes_from_pad(node: pb.Node, body: Nodes) -> bool:
    makers = {name: each for each in body for name in each.output}
    maker = makers.get(node.input[0])
    while maker is not None and maker.op_type in _BETWEEN:
        maker = makers.get(maker.input[0])
    return maker is not None and maker.op_type == "Pad"
