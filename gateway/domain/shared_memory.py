"""Triton's system_shared_memory: tensors that a client on this machine puts into POSIX shared memory.

Regions are read and written by calls and never mapped: a client may cut its file short at any
time, and who had it mapped would be killed for looking. Errors name neither keys nor files.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.domain.default_limits import MAX_BODY_BYTES
from gateway.errors import InvalidRequest, NotFound, TooLarge, Unsupported
from runtimes.tensors import Buffer

_FOLDER = Path("/dev/shm")  # noqa: S108 - it is what is wanted
_KEY = re.compile(r"/?([A-Za-z0-9_][A-Za-z0-9_.-]{0,254})")
_MAX_REGIONS = 1024
_MAX_NAME_LENGTH = 256
_MAX_BYTES = 1 << 62


class Region(NamedTuple):
    """`key` as in shm_open; `offset` and `byte_size` in bytes.

    serial  of its registration: another file may have the same key by now
    """

    name: str
    key: str
    offset: int
    byte_size: int
    serial: int = 0


class Place(NamedTuple):
    """Where a tensor lies, or shall be put: `offset` counts from the region's begin."""

    region: str
    offset: int
    byte_size: int


def open_region(region: Region) -> int:
    """A descriptor. Raises InvalidRequest: what is behind the key may be anything."""
    key = _KEY.fullmatch(region.key)
    if key is None:
        raise InvalidRequest("the key is not a name of shared memory; letters, digits, '_', '-' and '.' are wanted")
    try:
        found = os.open(_FOLDER / key[1], os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        raise InvalidRequest("there is no shared memory of that key that this server may use") from None
    about = os.fstat(found)
    if not stat.S_ISREG(about.st_mode) or about.st_size < region.offset + region.byte_size:
        os.close(found)
        raise InvalidRequest("the shared memory of that key ends before offset + byte_size; make it larger")
    return found


class Registry:
    """The supervisor's list of what is registered."""

    def __init__(self) -> None:
        self.regions: Mapping[str, Region] = {}
        self._serial = 0

    def register(self, region: Region) -> None:
        """Raises InvalidRequest."""
        name, _, offset, byte_size, _ = region
        if not name or len(name) > _MAX_NAME_LENGTH:
            raise InvalidRequest(f"a region needs a name of 1 to {_MAX_NAME_LENGTH} characters")
        if offset < 0 or byte_size <= 0 or offset + byte_size > _MAX_BYTES:
            raise InvalidRequest("offset must not be negative, and byte_size must be positive")
        if name in self.regions:
            raise InvalidRequest("a region of that name is registered already; unregister it first")
        if len(self.regions) >= _MAX_REGIONS:
            raise InvalidRequest(f"{_MAX_REGIONS} regions are registered, and there may be no more; unregister some")
        os.close(open_region(region))
        self._serial += 1
        self.regions = {**self.regions, name: region._replace(serial=self._serial)}

    def unregister(self, name: str) -> None:
        """ "" for all. What is not there is fine."""
        self.regions = {key: region for key, region in self.regions.items() if name not in ("", key)}


class SharedMemory:
    """The regions as one front uses them. most_bytes: of the inputs of one request."""

    def __init__(self, enabled: bool = False, most_bytes: int = MAX_BODY_BYTES) -> None:
        self.enabled = enabled
        self._most_bytes = most_bytes
        self._open: dict[Region, int] = {}
        self._by_name: dict[str, Region] = {}

    def apply(self, regions: Iterable[Region]) -> None:
        """From now on these are registered."""
        self._by_name = {region.name: region for region in regions}
        for region in list(self._open.keys() - set(self._by_name.values())):
            os.close(self._open.pop(region))

    def regions(self, name: str = "") -> list[Region]:
        """The one of that name, or all. Raises Unsupported, NotFound."""
        self._check()
        if name and name not in self._by_name:
            raise NotFound("no region of that name is registered")
        return [region for region in self._by_name.values() if name in ("", region.name)]

    def reader(self) -> Callable[[Place], bytes]:
        """For the inputs of one request: each call reads one. They raise InvalidRequest, TooLarge, Unsupported."""
        left = self._most_bytes

        def read(place: Place) -> bytes:
            nonlocal left
            found, start = self._find(place)
            left -= place.byte_size
            if left < 0:
                raise TooLarge(
                    f"the inputs in shared memory are over the limit of {self._most_bytes} bytes for one request"
                )
            data = b""
            while len(data) < place.byte_size:
                more = os.pread(found, place.byte_size - len(data), start + len(data))
                if not more:
                    raise InvalidRequest("the shared memory is shorter than it was when its region was registered")
                data = data + more if data else more
            return data

        return read

    def write(self, place: Place, data: Buffer) -> None:
        """Raises InvalidRequest, Unsupported."""
        found, start = self._find(place)
        if len(data) > place.byte_size:
            raise InvalidRequest(
                f"an output has {len(data)} bytes, but {place.byte_size} of shared memory were offered for it"
            )
        if os.fstat(found).st_size < start + len(data):
            raise InvalidRequest("the shared memory is shorter than it was when its region was registered")
        view = memoryview(data)
        while view:
            written = os.pwrite(found, view, start)
            view, start = view[written:], start + written

    def _check(self) -> None:
        if not self.enabled:
            raise Unsupported("shared memory is switched off; start the server with --shared-memory, or send the data")

    def _find(self, place: Place) -> tuple[int, int]:
        """Descriptor and offset in it."""
        self._check()
        region = self._by_name.get(place.region)
        if region is None:
            raise InvalidRequest("a tensor names a region that is not registered; register it first")
        if place.offset < 0 or place.byte_size < 0 or place.offset + place.byte_size > region.byte_size:
            raise InvalidRequest(
                f"a tensor lies beyond the {region.byte_size} bytes of its region; offset + byte_size must fit"
            )
        found = self._open.get(region)
        if found is None:
            found = self._open[region] = open_region(region)
        return found, region.offset + place.offset
