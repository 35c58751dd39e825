"""The memory of this process: now, and at its peak."""

import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def reset() -> None:
    """Forget the peak so far, where the kernel can do that, which is Linux."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # the peak then includes what loading the model took


def resident() -> int:
    """Return the bytes that are resident now; where the kernel does not report that, those of the peak."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Return the largest number of resident bytes so far; 0 if it cannot be found out."""
    found = _status("VmHWM")
    if found or resource is None:
        return found
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(used if sys.platform == "darwin" else used << 10)


def _status(key: str) -> int:
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0
