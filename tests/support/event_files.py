"""Reads TensorBoard's event files without TensorBoard: records with a length, and a checksum after each part."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def events(run: Path) -> Iterator[Any]:
    """Yield the events of all files in the folder of a run, in the order of the files' names."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def check(part: bytes, stored: int) -> None:
        value = crc32c(part)
        assert stored == ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF

    for file in sorted(run.glob("events.out.tfevents.*")):
        content, at = file.read_bytes(), 0
        while at < len(content):
            length, of_length = struct.unpack_from("<QI", content, at)
            data = content[at + 12 : at + 12 + length]
            check(content[at : at + 8], of_length)
            check(data, *struct.unpack_from("<I", content, at + 12 + length))
            yield Event.FromString(data)
            at += length + 16


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """Return tag → step → value."""
    found: dict[str, dict[int, float]] = {}
    for event in events(run):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found
