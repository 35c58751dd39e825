"""The response caches of one front: one that models share, and those of models that have their own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.engine.servable import Servable

if TYPE_CHECKING:
    from gateway.engine.cached_model import CachedModel
    from gateway.engine.response_cache import ResponseCache

Key = tuple[str, str]


class Caches:
    """Wraps the versions whose status has a response cache. `max_bytes` limits the shared one."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._shared: ResponseCache | None = None
        self._models: dict[Key, CachedModel] = {}

    def apply(self, servables: Mapping[Key, Servable]) -> None:
        """Apply a table with these versions. A version keeps its answers as long as its servable is the same."""
        for key, model in list(self._models.items()):
            servable = servables.get(key)
            size = None if servable is None else servable.status.response_cache
            if servable is not model.inner or size is None or (size or self._max_bytes) != model.cache.max_bytes:
                model.close()
                del self._models[key]
        for key, servable in servables.items():
            size = servable.status.response_cache
            if size is not None and key not in self._models and (size or self._max_bytes):
                # Imported late: a front without such a model needs neither the hash nor numpy for it.
                from gateway.engine.cached_model import CachedModel

                self._models[key] = CachedModel(servable, self._cache(size))

    def _cache(self, size: int) -> "ResponseCache":
        from gateway.engine.response_cache import ResponseCache

        if size:
            return ResponseCache(size)
        if self._shared is None:
            self._shared = ResponseCache(self._max_bytes)
        return self._shared

    def around(self, key: Key) -> Servable | None:
        """Return the version with its cache; None if it has none."""
        return self._models.get(key)

    def note_sizes(self) -> None:
        for model in self._models.values():
            model.note_size()
