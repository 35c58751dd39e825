"""Reads an input in a thread, while its earlier rows are scored."""

import queue
import threading
from collections.abc import Iterator

from gateway.score.sources.source import Chunk

# Chunks that wait to be sent, besides the one that is being read. More would only take memory.
_READ_AHEAD = 1


class ReadAhead:
    """Reads chunks in a thread, a few ahead. What goes wrong there is raised by the iterator."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._queue = queue.Queue[Chunk | Exception | None](_READ_AHEAD)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(chunks,), daemon=True)
        self._thread.start()

    def _read(self, chunks: Iterator[Chunk]) -> None:
        try:
            for chunk in chunks:
                self._queue.put(chunk)
                if self._ended.is_set():
                    return
            self._queue.put(None)
        except Exception as error:
            self._queue.put(error)

    def __iter__(self) -> Iterator[Chunk]:
        while (found := self._queue.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found

    def close(self) -> None:
        self._ended.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
