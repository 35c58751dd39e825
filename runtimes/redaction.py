"""What clients and logs of clients may not see in a framework's message: where things lie on this machine.

One function for every reason and error: the frameworks' own sentences are made of it, and so are the gateway's.
"""

import re

# A reference to a line of source, with the colon after it: "/build/x.cc:118:", 'File "a.py", line 3, in forward'.
_SOURCE = re.compile(
    r"""File\ "[^"]*",\ line\ \d+(,\ in\ \S+)?:?\s?
    |"[^"\s]*\.py",\ line\ \d+(,\ in\ \S+)?:?\s?
    |[^\s'"()]*\.(cc|cpp|cxx|cu|cuh|c|h|hpp|py|pyx)(:\d+)+:?\s?""",
    re.VERBOSE,
)
# With the words that lead to it: a sentence that points to a page is whole without it.
_URL = re.compile(
    r"(\s*[(,;]?\s*\b(please\s+)?(see|visit|from|at)\s+)?\b[a-z][a-z0-9+.-]+://[^\s'\"<>()]+\)?", re.IGNORECASE
)
_HOST = re.compile(
    r"(?<![\w.-])(\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?|(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+):\d{2,5})(?![\w.])",
    re.IGNORECASE,
)
# Of a path the last name is left: in quotes it may have blanks in it.
_QUOTED = re.compile(r"""(['"])(/|[A-Za-z]:[\\/]|\\\\)[^'"\n]*[\\/]([^'"\n\\/]*)\1""")
_POSIX = re.compile(r"(?<![\w.:/{}])(/[^\s'\":,;()/]+)+/")
_WINDOWS = re.compile(r"(?<!\w)([A-Za-z]:\\|\\\\)([^\s'\":,;()\\]+\\)*")


def redacted(text: str) -> str:
    """`text` without folders, lines of source, addresses and names of hosts; of a file its own name is left."""
    text = _URL.sub("", text)
    text = _SOURCE.sub("", text)
    text = _HOST.sub("another host", text)
    text = _QUOTED.sub(r"\1\3\1", text)
    text = _POSIX.sub("", text)
    return " ".join(_WINDOWS.sub("", text).split())
