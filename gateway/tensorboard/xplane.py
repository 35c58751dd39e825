"""The times of operators as XSpace, which TensorBoard's profile plugin (xprof) reads.

The plugin takes an event of the host as an operator of a framework if its name is NODE:TYPE, where the type is a word
that begins with a capital letter. So aten::conv2d becomes Conv2d there.
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
    kind, _, index = device.partition(":")
    name = "/host:CPU" if kind == "cpu" else f"/device:GPU:{index or 0}"
    plane = profile_pb.XPlane(id=number, name=name)
    if device == "cpu":
        line = plane.lines.add(id=1, name="inference")
        line.events.add(
            metadata_id=_metadata(plane, "inference", ""), duration_ps=round(profile.duration_us * _PS_PER_US)
        )
    for lane in sorted({each.lane for each in operators}):
        # The whole inference is on a line of its own, so that it does not surround the operators of one lane only.
        line = plane.lines.add(id=lane + 2, name=f"lane {lane}")
        for each in sorted((each for each in operators if each.lane == lane), key=lambda e: (e.start_us, -e.total_us)):
            metadata = _metadata(plane, f"{each.node}:{_type(each.operator)}", each.node)
            line.events.add(
                metadata_id=metadata,
                offset_ps=round(max(each.start_us, 0.0) * _PS_PER_US),
                duration_ps=round(each.total_us * _PS_PER_US),
            )
    return plane


def _metadata(plane: profile_pb.XPlane, name: str, display: str) -> int:
    """Return the number of the metadata with this name, which is added if it is new."""
    for number, each in plane.event_metadata.items():
        if each.name == name:
            return number
    number = len(plane.event_metadata) + 1
    plane.event_metadata[number].CopyFrom(profile_pb.XEventMetadata(id=number, name=name, display_name=display))
    return number


def _type(operator: str) -> str:
    word = _OTHERS.sub("_", operator.rpartition("::")[2]) or "Unknown"
    return word[0].upper() + word[1:]
