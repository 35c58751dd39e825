"""A model's graph as TensorFlow's GraphDef, and the times of its operators as RunMetadata, for the Graphs page."""

from collections.abc import Sequence

from gateway.generated import tensorboard_profile_pb2 as profile_pb
from runtimes.profiling import GraphNode, OperatorProfile, OperatorTime

# The beginning of the names of operators that the framework ran but that its graph does not have. They have no scope in
# common, because the page shows the time from the beginning of a scope's first node to the end of its last.
OUTSIDE = "not_in_the_graph."


def graph_def(nodes: Sequence[GraphNode], profile: OperatorProfile | None) -> bytes:
    """Return the GraphDef. Operators that ran without a node get one."""
    from tensorboardX.proto.attr_value_pb2 import AttrValue
    from tensorboardX.proto.graph_pb2 import GraphDef
    from tensorboardX.proto.node_def_pb2 import NodeDef
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboardX.proto.versions_pb2 import VersionDef

    times = profile.operators if profile else ()
    devices = {each.node: _device(each.device) for each in times}
    joined = {name: each.node for each in times for name in each.joined}
    names = {node.name for node in nodes}
    graph = GraphDef(versions=VersionDef(producer=22))
    for node in [*nodes, *_outside(times, names)]:
        attributes = dict(node.attributes)
        if node.name in joined:
            attributes["computed_by"] = joined[node.name]
        made = NodeDef(name=node.name, op=node.operator, input=node.inputs, device=devices.get(node.name, ""))
        for key, text in attributes.items():
            made.attr[key].s = text.encode()
        if node.shape is not None:
            dims = [TensorShapeProto.Dim(size=size) for size in node.shape]
            # The page labels edges with the shapes in this attribute.
            made.attr["_output_shapes"].CopyFrom(
                AttrValue(list=AttrValue.ListValue(shape=[TensorShapeProto(dim=dims)]))
            )
        graph.node.append(made)
    return bytes(graph.SerializeToString(deterministic=True))


def run_metadata(nodes: Sequence[GraphNode], profile: OperatorProfile) -> bytes:
    """Return the RunMetadata: for each node, when it began, and the sum of its own times.

    The format has whole microseconds, so a node that took less has 1.
    """
    names = {node.name for node in nodes}
    sums: dict[str, list[OperatorTime]] = {}
    for each in profile.operators:
        sums.setdefault(node_name(each, names), []).append(each)
    devices: dict[str, profile_pb.DeviceStepStats] = {}
    for name, executions in sums.items():
        first = min(executions, key=lambda each: each.start_us)
        device = devices.setdefault(first.device, profile_pb.DeviceStepStats(device=_device(first.device)))
        duration = max(1, round(sum(each.duration_us for each in executions)))
        device.node_stats.add(
            node_name=name,
            # 0 would mean that the beginning is unknown.
            all_start_micros=1 + max(0, round(first.start_us)),
            op_end_rel_micros=duration,
            all_end_rel_micros=duration,
            timeline_label=f"{name} = {first.operator}",
            thread_id=first.lane,
        )
    return profile_pb.RunMetadata(
        step_stats=profile_pb.StepStats(dev_stats=[devices[each] for each in sorted(devices)])
    ).SerializeToString()


def node_name(time: OperatorTime, names: set[str]) -> str:
    """Return the node that an operator's time belongs to: its own, or the one that is made for it."""
    return time.node if time.node in names else OUTSIDE + time.node.replace("/", ".")


def _outside(times: Sequence[OperatorTime], names: set[str]) -> list[GraphNode]:
    found: dict[str, GraphNode] = {}
    for each in times:
        if each.node not in names:
            name = node_name(each, names)
            found.setdefault(name, GraphNode(name, each.operator, (), None, {"why": each.note} if each.note else {}))
    return list(found.values())


def _device(device: str) -> str:
    """Return TensorFlow's name of a device: cuda:0 is /device:GPU:0."""
    kind, _, number = device.partition(":")
    return f"/device:{'GPU' if kind == 'cuda' else kind.upper()}:{number or 0}"
