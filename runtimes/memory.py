"""A limit for a worker's memory where no control group enforces one (`memory_limit` in model.toml)."""

import re
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Stacks of threads that the model's first run starts. They are reserved whole, and mostly stay empty.
_STACK_BYTES, _STACKS_PER_THREAD = 8 << 20, 2
_EXHAUSTED = re.compile(
    r"bad_alloc|(can(no|')t|failed to|could not|unable to) alloc|out of memory|\bOOM\b|not enough memory", re.IGNORECASE
)


def limit(size: int, threads: int) -> None:
    """Let allocations fail that would take this process beyond `size` bytes of memory. Does nothing without Linux.

    threads: how many the model's operators use

    The kernel counts what is reserved (RLIMIT_DATA), used or not. So what the framework has reserved and not used comes
    on top. RLIMIT_AS would count files and the address space of cards as well.
    """
    if resource is None or not sys.platform.startswith("linux"):
        return
    with open("/proc/self/status") as file:
        kilobytes = {line.split(":")[0]: line.split()[1] for line in file if line.endswith(" kB\n")}
    unused = max(0, int(kilobytes["VmData"]) - int(kilobytes["RssAnon"])) << 10
    allowed = size + unused + threads * _STACKS_PER_THREAD * _STACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def is_exhausted(error: BaseException) -> bool:
    """Return whether this error, or one that it was raised from, is about memory."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, MemoryError) or _EXHAUSTED.search(str(error)):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1  # type: ignore[assignment]
    return False


def too_small(size: int) -> str:
    """Return why a model cannot be loaded."""
    return "it needs more memory than its memory_limit of %s; raise the limit, or serve a smaller model" % written(size)


def written(size: int) -> str:
    """Return a number of bytes as model.toml writes it: 1536MiB."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size and not size % (1 << power):
            return "%d%s" % (size >> power, unit)
    return str(size)
