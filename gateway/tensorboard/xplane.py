"""The times of operators as XSpace, which TensorBoard's profile plugin (xprof) reads.

The plugin takes an event of the host as an operator of a framework if its name is NODE:TYPE, where the type is a word
that begins with a capital letter. So aten::conv2d becomes Conv2d there. It sums events by NODE alone, so an operator
that is called by another one of the same node gets a name of its own.
"""

import re
import socket
from pathlib import Path

from gateway.generated import tensorboard_profile_pb2 as profile_pb
from runtimes.profiling import OperatorProfile, OperatorTime

_PS_PER_US = 1_000_000
_OTHERS = re.compile(r"[^A-Za-z0-9_]")


def write(logdir: Path, run: str, profile: OperatorProfile) -> None:
    """Write the files of a run below a log folder. Raises OSError."""
    folder = logdir / "plugins" / "profile" / run
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    (folder / f"{host}.xplane.pb").write_bytes(space(profile, host).SerializeToString(deterministic=True))


def space(profile: OperatorProfile, host: str) -> profile_pb.XSpace:
    found = profile_pb.XSpace(hostnames=[host])
    devices = sorted({each.device for each in profile.operators} | {"cpu"})
    for number, device in enumerate(devices):
        operators = [each for each in profile.operators if each.device == device]
        found.planes.append(_plane(number, device, operators, profile))
    return found


def _plane(number: int, device: str, operators: list[OperatorTime], profile: OperatorProfile) -> profile_pb.XPlane:
    number_of_card = device.partition(":")[2] or "0"
    plane = profile_pb.XPlane(id=number, name="/host:CPU" if device == "cpu" else f"/device:GPU:{number_of_card}")
    metadata: dict[str, int] = {}

    def add(line: profile_pb.XLine, name: str, shown: str, start_us: float, duration_us: float) -> None:
        found = metadata.setdefault(name, len(metadata) + 1)
        plane.event_metadata[found].CopyFrom(profile_pb.XEventMetadata(id=found, name=name, display_name=shown))
        offset, duration = round(max(start_us, 0.0) * _PS_PER_US), round(duration_us * _PS_PER_US)
        line.events.add(metadata_id=found, offset_ps=offset, duration_ps=duration)

    if device == "cpu":
        # On a line of its own, so that it does not surround the operators of one lane only.
        add(plane.lines.add(id=1, name="inference"), "inference", "", 0.0, profile.duration_us)
    outermost: dict[str, str] = {}  # node → the operator that its name alone stands for
    for each in operators:
        outermost.setdefault(each.node, each.operator)
    for lane in sorted({each.lane for each in operators}):
        line = plane.lines.add(id=lane + 2, name=f"lane {lane}")
        for each in sorted((each for each in operators if each.lane == lane), key=lambda e: (e.start_us, -e.total_us)):
            kind = _type(each.operator)
            name = each.node if outermost[each.node] == each.operator else f"{each.node}/{kind}"
            add(line, f"{name}:{kind}", name, each.start_us, each.total_us)
    return plane


def _type(operator: str) -> str:
    word = _OTHERS.sub("_", operator.rpartition("::")[2]) or "Unknown"
    return word[0].upper() + word[1:]
