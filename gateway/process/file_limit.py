"""Raises the limit of open files. Each connection needs a descriptor, and the usual default is 1024."""

import contextlib
import resource

# More than a gateway needs. Some systems allow a billion, but programs that close "all" descriptors before they start
# another one then take minutes.
_MAX_FILES = 1 << 20
# The largest limit that macOS accepts (OPEN_MAX) even if it reports no limit.
_FALLBACK = 10240


# The part of its descriptors that a process may use for connections of one kind. The rest is for those of other kinds,
# and for files and workers.
_SHARE = 0.75


def max_connections() -> int:
    """Return how many connections this process can have."""
    return max(1, int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * _SHARE))


def raise_open_files() -> int:
    """Raise the soft limit as far as possible for this process and its children, and return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    for limit in (allowed, _FALLBACK):
        if soft != resource.RLIM_INFINITY and limit > soft:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
