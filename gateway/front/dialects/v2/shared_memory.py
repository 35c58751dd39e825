"""The system_shared_memory extension, for REST and gRPC alike; and the parameters by which tensors name a place."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.control import RegisterRegion, UnregisterRegion
from gateway.domain.shared_memory import Place
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, NotFound, shorten

PLACE_NAMES = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


def read_place(parameters: Mapping[str, Any], what: str) -> Place | None:
    """Where the tensor `what` lies, or shall be put; None where it names no region. Raises InvalidRequest."""
    region, byte_size, offset = (parameters.get(key) for key in PLACE_NAMES)
    if region is None:
        return None
    if byte_size is None:
        raise InvalidRequest(f"{what} names a shared_memory_region without shared_memory_byte_size; send both")
    offset = 0 if offset is None else offset
    if type(region) is not str or type(byte_size) is not int or type(offset) is not int:
        raise InvalidRequest(
            f"{what} must name its shared_memory_region as a string, and its byte_size and offset as whole numbers"
        )
    return Place(region, offset, byte_size)


def place_parameters(place: Place, size: int) -> dict[str, Any]:
    """Of an output of so many bytes that was put there."""
    told: dict[str, Any] = {PLACE_NAMES[0]: place.region, PLACE_NAMES[1]: size}
    return {**told, PLACE_NAMES[2]: place.offset} if place.offset else told


def status(engine: Engine, name: str = "") -> list[dict[str, Any]]:
    """Raises Unsupported, NotFound."""
    names = ("name", "key", "offset", "byte_size")
    return [dict(zip(names, region, strict=False)) for region in engine.shared_memory.regions(name)]


async def register(engine: Engine, name: str, record: Mapping[str, Any]) -> None:
    """`record` has key, offset and byte_size. Raises Unsupported, InvalidRequest."""
    engine.shared_memory.regions()  # whether it is switched on
    key, offset, byte_size = record.get("key"), record.get("offset"), record.get("byte_size")
    offset = 0 if offset is None else offset
    if type(key) is not str or type(offset) is not int or type(byte_size) is not int:
        raise InvalidRequest("a region needs 'key', a string, and 'offset' and 'byte_size', whole numbers")
    await engine.control(RegisterRegion(name, key, offset, byte_size))


async def unregister(engine: Engine, name: str = "") -> None:
    """Raises Unsupported."""
    engine.shared_memory.regions()
    await engine.control(UnregisterRegion(name))


def cuda_status(engine: Engine, name: str = "") -> list[dict[str, Any]]:
    """There is no CUDA region, and none can be registered. Raises Unsupported, NotFound."""
    engine.shared_memory.regions()
    if name:
        raise NotFound(f"there is no CUDA shared memory region '{shorten(name)}'; CUDA shared memory is not served")
    return []
