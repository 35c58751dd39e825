"""How many descriptors a process may have. Each connection is one, and systems begin with 1024."""

import contextlib
import resource

# More than anybody needs; programs that close "all" descriptors take forever where the limit is a billion.
_MAX_FILES = 1 << 20
# What macOS allows where it says that there is no limit (OPEN_MAX).
_FALLBACK = 10240


def raise_limit() -> int:
    """As far as it may be raised, for this process and those that it starts; how many are allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    for wanted in (allowed, _FALLBACK):
        if soft != resource.RLIM_INFINITY and wanted > soft:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
