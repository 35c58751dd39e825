"""A store in memory that fails as real ones do, for tests."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gateway.contents.errors import StoreError
from gateway.remote.store import RemoteObject


class FakeStore:
    """content may be changed at any time, like that of a real store.

    dead       whether every request fails
    truncate   names whose content ends after half of it
    lie        name → number of bytes by which the announced size is wrong
    on_read    called with a name before its first byte is sent
    reads      the names that were read
    """

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self.content = dict(content)
        self.dead = False
        self.truncate: set[str] = set()
        self.lie: dict[str, int] = {}
        self.on_read: Callable[[str], None] = lambda name: None
        self.reads: list[str] = []
        self.lists = 0

    def objects(self, prefix: str = "") -> list[RemoteObject]:
        self.lists += 1
        self._check()
        below = prefix + "/" if prefix else ""
        return [self._object(name) for name in sorted(self.content) if name.startswith(below)]

    def read(self, item: RemoteObject, scratch: Path) -> Iterator[bytes]:
        self._check()
        self.reads.append(item.name)
        self.on_read(item.name)
        if self._object(item.name) != item:
            raise StoreError(f"'{item.name}' changed while it was being downloaded")
        content = self.content[item.name]
        if item.name in self.truncate:
            content = content[: len(content) // 2]
        for start in range(0, len(content), 3):
            self._check()
            yield content[start : start + 3]

    def _object(self, name: str) -> RemoteObject:
        content = self.content.get(name, b"")
        etag = hashlib.sha256(content).hexdigest()[:16]
        return RemoteObject(name, len(content) + self.lie.get(name, 0), f'"{etag}"')

    def _check(self) -> None:
        if self.dead:
            raise StoreError("the store cannot be listed: the connection is refused")
