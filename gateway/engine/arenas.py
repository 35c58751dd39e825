"""A front's shared memory, an arena per model: a worker can read the inputs of its own model and of no other."""

from collections.abc import Collection

from gateway.engine.arena import MIN_ARENA_BYTES, Arena, is_supported

# What all arenas of a front may keep of freed memory together, so that blocks in regular use need no new pages from
# the kernel, and the least that one keeps. Smaller values cost page faults; larger ones cost memory in each front.
_RETAINED_BYTES = 1 << 26
_MIN_RETAINED_BYTES = 1 << 22


class Arenas:
    """size: of each arena. They are sparse, so that admission alone limits the memory of all of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._arenas: dict[str, Arena] = {}

    def of(self, model: str) -> Arena | None:
        """Return the arena of a model that exists; None if the system has no memory or descriptors for another."""
        arena = self._arenas.get(model)
        if arena is None:
            try:
                arena = self._arenas[model] = Arena(self._size)
            except OSError:
                return None
            self._share_retained()
        return arena

    def allocate(self, size: int, model: str) -> memoryview | None:
        """Return a block for an input of this model; None if it is small, or if the model has no arena or no room."""
        arena = self._arenas.get(model) if size >= MIN_ARENA_BYTES else None
        return None if arena is None else arena.allocate(size)

    def keep(self, models: Collection[str]) -> None:
        """Forget the arenas of all other models. Their memory is freed with the last block."""
        gone = [model for model in self._arenas if model not in models]
        for model in gone:
            del self._arenas[model]
        if gone:
            self._share_retained()

    def _share_retained(self) -> None:
        for arena in self._arenas.values():
            arena.retained_bytes = max(_RETAINED_BYTES // len(self._arenas), _MIN_RETAINED_BYTES)


def open_arenas(size: int) -> Arenas | None:
    """Return arenas of `size` bytes each; None on systems without memfd and /proc (macOS)."""
    return Arenas(size) if is_supported() else None
