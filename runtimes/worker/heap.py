"""Returns the memory that loading has freed to the system."""

import ctypes


def return_free_memory() -> None:
    """Have glibc release its free pages, which it otherwise keeps while an allocation above them is in use.

    A runtime reads the artifact's bytes, and often copies the weights, before it frees them. Takes milliseconds. Does
    nothing with another C library.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
