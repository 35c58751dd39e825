"""Limits the large images that are decoded at a time. Used in threads."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Condition, Lock
from typing import Any

from gateway.errors import Overloaded

# Images with fewer pixels are decoded at any time, because their memory hardly counts: a few threads decode.
LARGE_PIXELS = 1 << 20


class DecodingLimit:
    """Limits the pixels of the large images that are decoded at a time, because decoding makes several copies of them.

    They may have twice the pixels of the largest image allowed. With fewer, such an image would leave cores idle.
    """

    def __init__(self) -> None:
        self._pixels = 0
        self._changed = Condition()
        self._queue = Lock()  # whoever waits for pixels holds it, so that smaller images do not overtake a larger one

    @contextmanager
    def reserve(
        self, pixels: int, max_pixels: int, memory: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> Iterator[None]:
        """Wait until an image of `pixels` may be decoded, and count it during the block, which is in `memory`.

        Where there is no room for its memory beside other images, it waits for them. Raises Overloaded if there is none
        without them.
        """
        if pixels <= LARGE_PIXELS:
            yield
            return
        reserved = ExitStack()
        with self._queue, self._changed:
            self._changed.wait_for(lambda: self._admits(pixels, max_pixels, reserved, memory()))
            self._pixels += pixels
        try:
            with reserved:
                yield
        finally:
            with self._changed:
                self._pixels -= pixels
                self._changed.notify_all()

    def _admits(self, pixels: int, max_pixels: int, reserved: ExitStack, memory: AbstractContextManager[Any]) -> bool:
        if self._pixels + pixels > 2 * max_pixels:
            return False
        try:
            reserved.enter_context(memory)
        except Overloaded:
            if not self._pixels:
                raise
            return False
        return True
