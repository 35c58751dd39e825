"""Records of the log as lines: as text, as JSON, and as a front sends them to the supervisor.

A front writes its records to standard error, which the supervisor reads: unlike a message on their channel, what was
written there arrives even if the front crashes.
"""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime

# Begins a line that is a record of a front, as in JSON text sequences (RFC 7464). Other output of a front, such as that
# of its libraries, has no such character.
_RECORD = "\x1e"
# In characters, each of which takes up to six bytes: together they stay below the longest line of a child
# (process/child.py). The end of a traceback says more than its beginning.
_MAX_MESSAGE, _MAX_EXCEPTION = 2000, 8000


def rfc3339(seconds: float) -> str:
    """Return a time in seconds since 1970 as text, in UTC and to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(logging.Formatter):
    """iso8601: whether times are in UTC, as RFC 3339 has them; they are local otherwise."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self.iso8601 = False

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return rfc3339(record.created) if self.iso8601 else super().formatTime(record, datefmt)

    def formatMessage(self, record: logging.LogRecord) -> str:
        text, request_id = super().formatMessage(record), _request_id(record)
        return f"{text} (request {request_id})" if request_id else text


class JsonFormatter(logging.Formatter):
    """One object per record: time, level, logger and message; request_id, and exception with its traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := _request_id(record):
            fields["request_id"] = request_id
        if text := _exception(record):
            fields["exception"] = text
        # Everything but ASCII is escaped, so that no program takes a character for the end of the line.
        return json.dumps(fields)


class FrontFormatter(logging.Formatter):
    """A line that `from_front` reads.

    request_id  returns the id of the request that the current task answers; "" if there is none
    """

    def __init__(self, request_id: Callable[[], str] = str) -> None:
        super().__init__()
        self._current_id = request_id

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": record.created,
            "level": record.levelno,
            "message": record.getMessage()[:_MAX_MESSAGE],
            "exception": _exception(record)[-_MAX_EXCEPTION:],
            "request_id": _request_id(record) or self._current_id(),
        }
        return _RECORD + json.dumps(fields, ensure_ascii=False)


def from_front(line: str, logger: str) -> logging.LogRecord | None:
    """Return the record in a line of a front's output, with the name of this logger; None if it has none."""
    if not line.startswith(_RECORD):
        return None
    try:
        fields = json.loads(line[len(_RECORD) :])
    except ValueError:  # the front ended, or something else wrote, in the middle of the line
        return None
    record = logging.LogRecord(logger, fields["level"], "", 0, fields["message"], None, None)
    record.created = fields["time"]
    record.msecs = fields["time"] % 1 * 1000
    record.exc_text = fields["exception"] or None
    record.request_id = fields["request_id"]
    return record


def _request_id(record: logging.LogRecord) -> str:
    """Return the id of the request that a record is about; "" if it is about none."""
    return getattr(record, "request_id", "")


def _exception(record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return "\n".join(text for text in (record.exc_text, record.stack_info) if text)
