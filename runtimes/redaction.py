"""Removes from messages what reveals this machine: folders, hosts, and lines of source code.

Every reason and error that contains a framework's message passes through `redacted` before a client sees it.
"""

import re

# A reference to a line of source, including the colon after it: "/build/x.cc:118:", 'File "a.py", line 3, in forward'.
_SOURCE = re.compile(
    r"""File\ "[^"]*",\ line\ \d+(,\ in\ \S+)?:?\s?
    |"[^"\s]*\.py",\ line\ \d+(,\ in\ \S+)?:?\s?
    |[^\s'"()]*\.(cc|cpp|cxx|cu|cuh|c|h|hpp|py|pyx)(:\d+)+:?\s?""",
    re.VERBOSE,
)
# A URL, including the words that introduce it, so that the sentence is still complete without it.
_URL = re.compile(
    r"(\s*[(,;]?\s*\b(please\s+)?(see|visit|from|at)\s+)?\b[a-z][a-z0-9+.-]+://[^\s'\"<>()]+\)?", re.IGNORECASE
)
_HOST = re.compile(
    r"(?<![\w.-])(\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?|(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+):\d{2,5})(?![\w.])",
    re.IGNORECASE,
)
# Paths are reduced to their last name. Only a quoted path may contain spaces.
_QUOTED = re.compile(r"""(['"])(/|[A-Za-z]:[\\/]|\\\\)[^'"\n]*[\\/]([^'"\n\\/]*)\1""")
_POSIX = re.compile(r"(?<![\w.:/{}])(/[^\s'\":,;()/]+)+/")
_WINDOWS = re.compile(r"(?<!\w)([A-Za-z]:\\|\\\\)([^\s'\":,;()\\]+\\)*")


def redacted(text: str) -> str:
    """Return `text` without folders, source lines, URLs and hosts. Paths are reduced to the name of the file."""
    text = _URL.sub("", text)
    text = _SOURCE.sub("", text)
    text = _HOST.sub("another host", text)
    text = _QUOTED.sub(r"\1\3\1", text)
    text = _POSIX.sub("", text)
    return " ".join(_WINDOWS.sub("", text).split())


def reason_of(error: BaseException) -> str:
    """Return the first line of an exception's message of which `redacted` leaves something, or else its type."""
    lines = (redacted(line) for line in str(error).splitlines())
    return next((line for line in lines if line), "%s without a message" % type(error).__name__)
