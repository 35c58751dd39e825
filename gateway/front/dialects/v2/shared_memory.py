"""The system_shared_memory extension, for REST and gRPC, and the parameters of tensors that are in a region."""

from collections.abc import Mapping
from typing import Any

from gateway.domain.control import RegisterRegion, UnregisterRegion
from gateway.domain.shared_memory import RegionRange
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest, NotFound, shorten

REGION_PARAMETERS = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")


def read_region_range(parameters: Mapping[str, Any], tensor: str) -> RegionRange | None:
    """Return where a tensor is or will be written, or None if it is not in a region. Raises InvalidRequest.

    `tensor` is how error messages refer to it, such as "input 'x'".
    """
    region, byte_size, offset = (parameters.get(key) for key in REGION_PARAMETERS)
    if region is None:
        return None
    if byte_size is None:
        raise InvalidRequest(f"{tensor} names a shared_memory_region without shared_memory_byte_size; send both")
    offset = 0 if offset is None else offset
    if type(region) is not str or type(byte_size) is not int or type(offset) is not int:
        raise InvalidRequest(
            f"{tensor} must name its shared_memory_region as a string, and its byte_size and offset as whole numbers"
        )
    return RegionRange(region, offset, byte_size)


def region_parameters(region_range: RegionRange, size: int) -> dict[str, Any]:
    """Return the parameters of an output of `size` bytes that was written there."""
    parameters: dict[str, Any] = {REGION_PARAMETERS[0]: region_range.region, REGION_PARAMETERS[1]: size}
    if region_range.offset:
        parameters[REGION_PARAMETERS[2]] = region_range.offset
    return parameters


def status(engine: Engine, name: str = "") -> list[dict[str, Any]]:
    """Return the registered regions, or the one of this name. Raises Unsupported, NotFound."""
    names = ("name", "key", "offset", "byte_size")
    return [dict(zip(names, region, strict=False)) for region in engine.shared_memory.regions(name)]


async def register(engine: Engine, name: str, record: Mapping[str, Any]) -> None:
    """Register a region. `record` has key, offset and byte_size. Raises Unsupported, InvalidRequest."""
    engine.shared_memory.regions()  # raises Unsupported if shared memory is disabled
    key, offset, byte_size = record.get("key"), record.get("offset"), record.get("byte_size")
    offset = 0 if offset is None else offset
    if type(key) is not str or type(offset) is not int or type(byte_size) is not int:
        raise InvalidRequest("a region needs 'key', a string, and 'offset' and 'byte_size', whole numbers")
    await engine.control(RegisterRegion(name, key, offset, byte_size))


async def unregister(engine: Engine, name: str = "") -> None:
    """Unregister the region of this name, or all of them. Raises Unsupported."""
    engine.shared_memory.regions()
    await engine.control(UnregisterRegion(name))


def cuda_status(engine: Engine, name: str = "") -> list[dict[str, Any]]:
    """Return no regions: CUDA shared memory is not supported. Raises Unsupported, NotFound."""
    engine.shared_memory.regions()
    if name:
        raise NotFound(f"there is no CUDA shared memory region '{shorten(name)}'; CUDA shared memory is not supported")
    return []
