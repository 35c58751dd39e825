"""Wakes a thread that polls."""

import os


class Wake:
    """A pipe. descriptor: becomes readable by `wake`, which any thread may call, and stays so until `clear`."""

    def __init__(self) -> None:
        self.descriptor, self._by = os.pipe()
        for each in (self.descriptor, self._by):
            os.set_blocking(each, False)

    def wake(self) -> None:
        try:
            os.write(self._by, b"\0")
        except BlockingIOError:
            pass  # enough is written already

    def clear(self) -> None:
        try:
            while os.read(self.descriptor, 4096):
                pass
        except BlockingIOError:
            pass
