"""Rewrites an ONNX file so that ONNX Runtime's default optimizers do not change its results.

ONNX Runtime's optimizer Pad_Fusion (enabled by default, at least up to 1.31.1) merges a Pad of zeros into the pooling
that follows. In a MaxPool, explicit zeros win over negative values, whereas the operator's own padding never does, so
the results change. modelport's runtime disables that optimizer; other programs do not. The optimizer skips poolings
that declare no padding (auto_pad = VALID), and those with a second output (the indices of the maxima).
"""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

from gateway.generated import onnx_graph_pb2 as pb

_STRING = 3  # in ONNX's AttributeProto.AttributeType
# Operators that the optimizer ignores between the two, or that other optimizers move or remove.
_BETWEEN = ("Cast", "Identity", "Transpose", "Dropout")
Nodes = list[pb.Node]


def keep_padding(path: Path) -> None:
    """Modify the file if one of its poolings may be fused with a Pad."""
    if not _may_have_both(path):
        return
    model = pb.Model.FromString(path.read_bytes())
    bodies = [*_bodies(model.graph.node), *(body for each in model.functions for body in _bodies(each.node))]
    if not any(node.op_type == "Pad" for body in bodies for node in body):
        return
    changed = [_prevent_fusion(node, body) for body in bodies for node in body]  # a list: any() would stop at the first
    if any(changed):
        path.write_bytes(model.SerializeToString())


def _may_have_both(path: Path) -> bool:
    """Search the file without reading all of it, which may be 2 GB of weights."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"Pad") >= 0 and (content.find(b"MaxPool") >= 0 or content.find(b"AveragePool") >= 0)


def _bodies(nodes: Iterable[pb.Node]) -> Iterator[Nodes]:
    """Yield these nodes, and those of each nested graph."""
    body = list(nodes)
    yield body
    for node in body:
        for attribute in node.attribute:
            for graph in [attribute.g, *attribute.graphs]:
                if graph.node:
                    yield from _bodies(graph.node)


def _prevent_fusion(node: pb.Node, body: Nodes) -> bool:
    """Modify the node if it is a pooling that may be fused. Return whether it was modified."""
    if node.op_type not in ("MaxPool", "AveragePool") or node.domain not in ("", "ai.onnx"):
        return False
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if "auto_pad" in attributes and attributes["auto_pad"].s != b"NOTSET":
        return False
    padded = "pads" in attributes and any(attributes["pads"].ints)
    # Not with ceil_mode: runtimes disagree about what VALID means for a size that is rounded up.
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
    producers = {name: each for each in body for name in each.output}
    producer = producers.get(node.input[0])
    while producer is not None and producer.op_type in _BETWEEN:
        producer = producers.get(producer.input[0])
    return producer is not None and producer.op_type == "Pad"
