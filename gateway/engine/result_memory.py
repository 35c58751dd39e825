"""Memory in which one worker writes large results for one front, which reads them there.

It is one anonymous file (memfd) for each connection, which nobody else maps. The worker can write to it at any time,
also while the front reads. So values must not be trusted to stay as they were when something was checked. That does no
harm to numbers that are written into an answer, nor to those that another model gets as inputs, because they are copied
into its arena first. Strings are never here.
"""

import asyncio
import contextlib
import fcntl
import mmap
import os
import weakref
from collections.abc import Callable

import numpy as np

from runtimes.layouts import ALIGNMENT
from runtimes.wire import WireError

# What the results of one worker may take while clients read them; more go through the socket. The memory counts as the
# worker's, because it writes first, so clients that read slowly must not be able to use much of it.
RESULT_MEMORY_BYTES = 1 << 26


class ResultMemory:
    """Blocks are arrays of bytes. A block is released when nothing refers to its array any more.

    size        bytes
    descriptor  of the file, for the worker, open for reading and writing; -1 after `close_descriptor`

    `on_release` is called on the event loop with the offset of a block that was released.
    """

    def __init__(self, on_release: Callable[[int], None], size: int = RESULT_MEMORY_BYTES) -> None:
        """Raises OSError."""
        self.size = size
        self._on_release = on_release
        self._loop = asyncio.get_running_loop()
        self.descriptor = os.memfd_create("modelport-results", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            # Reading beyond the end of a file that was made shorter would end this process.
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            os.fchmod(self.descriptor, 0)  # nobody opens it by another name
            self._whole = np.frombuffer(mmap.mmap(self.descriptor, size, prot=mmap.PROT_READ), np.uint8)
        except OSError:
            self.close_descriptor()
            raise

    def close_descriptor(self) -> None:
        """Call it when the worker has the descriptor."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def block(self, offset: int, size: int) -> memoryview:
        """Return the bytes that the worker has written there. Raises WireError if it cannot have done so."""
        if offset % ALIGNMENT or offset + size > self.size:
            raise WireError("a frame has results outside of the memory for them")
        block = self._whole[offset : offset + size]
        weakref.finalize(block, self._release, offset).atexit = False
        return block.data

    def _release(self, offset: int) -> None:
        """The garbage collector may call this at any moment, and on any thread."""
        with contextlib.suppress(RuntimeError):  # the front has ended
            self._loop.call_soon_threadsafe(self._on_release, offset)
