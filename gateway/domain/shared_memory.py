"""Triton's system shared memory: clients on this machine exchange tensors by regions of POSIX shared memory.

Regions are accessed by pread and pwrite, and never mapped: a client may truncate its file at any time, and access to
a mapping beyond the end of a file kills the process (SIGBUS). Errors contain neither keys nor paths, so that clients
cannot probe for files.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.domain.default_limits import MAX_BODY_BYTES
from gateway.errors import InvalidRequest, NotFound, TooLarge, Unsupported
from runtimes.tensor_bytes import Buffer

FOLDER = Path("/dev/shm")  # noqa: S108 - POSIX shared memory is here on Linux
_KEY = re.compile(r"/?([A-Za-z0-9_][A-Za-z0-9_.-]{0,254})")
# Each front may open a file descriptor for each region.
_MAX_REGIONS = 1024
_MAX_NAME_LENGTH = 256
# Sums of offsets and sizes up to this limit fit into 64 bits.
_MAX_BYTES = 1 << 62


class Region(NamedTuple):
    """A registered region. `key` is as for shm_open; `offset` and `byte_size` are in bytes.

    serial  number of the registration. A key that is registered again may refer to another file
    """

    name: str
    key: str
    offset: int
    byte_size: int
    serial: int = 0


class RegionRange(NamedTuple):
    """The part of a region that an input is read from, or an output is written to. `offset` is within the region."""

    region: str
    offset: int
    byte_size: int


def open_region(region: Region) -> int:
    """Open the region's file and return its descriptor.

    Raises InvalidRequest. A client's key may name any file, so the file must be regular and large enough.
    """
    key = _KEY.fullmatch(region.key)
    if key is None:
        raise InvalidRequest("the key is not a name of shared memory; use letters, digits, '_', '-' and '.'")
    try:
        descriptor = os.open(FOLDER / key[1], os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        raise InvalidRequest("there is no shared memory of that key that this server may use") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size < region.offset + region.byte_size:
        os.close(descriptor)
        raise InvalidRequest("the shared memory of that key ends before offset + byte_size; make it larger")
    return descriptor


class RegionRegistry:
    """The registered regions, in the supervisor."""

    def __init__(self) -> None:
        self.regions: Mapping[str, Region] = {}
        self._serial = 0

    def register(self, region: Region) -> None:
        """Register a region. Raises InvalidRequest."""
        name, _, offset, byte_size, _ = region
        if not name or len(name) > _MAX_NAME_LENGTH:
            raise InvalidRequest(f"a region needs a name of 1 to {_MAX_NAME_LENGTH} characters")
        if offset < 0 or byte_size <= 0 or offset + byte_size > _MAX_BYTES:
            raise InvalidRequest("offset must not be negative, and byte_size must be positive")
        if name in self.regions:
            raise InvalidRequest("a region of that name is registered already; unregister it first")
        if len(self.regions) >= _MAX_REGIONS:
            raise InvalidRequest(f"{_MAX_REGIONS} regions are registered, which is the limit; unregister some")
        os.close(open_region(region))
        self._serial += 1
        self.regions = {**self.regions, name: region._replace(serial=self._serial)}

    def unregister(self, name: str) -> None:
        """Unregister a region, or all of them for "". Does nothing if there is none with this name."""
        self.regions = {key: region for key, region in self.regions.items() if name not in ("", key)}


class SharedMemory:
    """The registered regions, in a front. `max_request_bytes` limits the inputs of one request."""

    def __init__(self, enabled: bool = False, max_request_bytes: int = MAX_BODY_BYTES) -> None:
        self.enabled = enabled
        self._max_request_bytes = max_request_bytes
        self._open: dict[Region, int] = {}
        self._by_name: dict[str, Region] = {}

    def apply(self, regions: Iterable[Region]) -> None:
        """Replace the registered regions."""
        self._by_name = {region.name: region for region in regions}
        for region in list(self._open.keys() - set(self._by_name.values())):
            os.close(self._open.pop(region))

    def regions(self, name: str = "") -> list[Region]:
        """Return the region with this name, or all of them for "". Raises Unsupported, NotFound."""
        self._check_enabled()
        if name and name not in self._by_name:
            raise NotFound("no region of that name is registered")
        return [region for region in self._by_name.values() if name in ("", region.name)]

    def reader(self) -> Callable[[RegionRange], bytes]:
        """Return a function that reads the inputs of one request, and raises TooLarge for more than its limit.

        The function raises InvalidRequest and Unsupported too.
        """
        remaining = self._max_request_bytes

        def read(region_range: RegionRange) -> bytes:
            nonlocal remaining
            descriptor, start = self._locate(region_range)
            remaining -= region_range.byte_size
            if remaining < 0:
                raise TooLarge(
                    f"the inputs in shared memory are over the limit of {self._max_request_bytes} bytes for one request"
                )
            data = b""
            while len(data) < region_range.byte_size:
                more = os.pread(descriptor, region_range.byte_size - len(data), start + len(data))
                if not more:
                    raise InvalidRequest("the shared memory is shorter than it was when its region was registered")
                data = data + more if data else more
            return data

        return read

    def write(self, region_range: RegionRange, data: Buffer) -> None:
        """Write an output. Raises InvalidRequest, Unsupported."""
        descriptor, start = self._locate(region_range)
        if len(data) > region_range.byte_size:
            raise InvalidRequest(
                f"an output has {len(data)} bytes, but its range of shared memory has {region_range.byte_size}"
            )
        if os.fstat(descriptor).st_size < start + len(data):
            raise InvalidRequest("the shared memory is shorter than it was when its region was registered")
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, start)
            view, start = view[written:], start + written

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise Unsupported("shared memory is switched off; start the server with --shared-memory, or send the data")

    def _locate(self, region_range: RegionRange) -> tuple[int, int]:
        """Return the file descriptor of a range and its offset in the file."""
        self._check_enabled()
        region = self._by_name.get(region_range.region)
        if region is None:
            raise InvalidRequest("a tensor names a region that is not registered; register it first")
        _, offset, byte_size = region_range
        if offset < 0 or byte_size < 0 or offset + byte_size > region.byte_size:
            raise InvalidRequest(
                f"a tensor is beyond the {region.byte_size} bytes of its region; offset + byte_size must fit"
            )
        descriptor = self._open.get(region)
        if descriptor is None:
            descriptor = self._open[region] = open_region(region)
        return descriptor, region.offset + offset
