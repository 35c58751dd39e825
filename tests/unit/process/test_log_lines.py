"""Lines of the log: each record is one JSON object, and records of fronts arrive as they were."""

import asyncio
import json
import logging
import re
import sys
from functools import partial

import pytest

from gateway.process.child import Child
from gateway.process.logs import FrontFormatter, JsonFormatter, TextFormatter, from_front

LOG = logging.getLogger("front")


def record(message: str = "it failed", level: int = logging.ERROR, error: Exception | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return LOG.makeRecord("front", level, "", 0, message, (), info)


def failure() -> Exception:
    try:
        raise ValueError("two\nlines, and \N{GREEK SMALL LETTER ALPHA}")
    except ValueError as error:
        return error


def test_a_record_is_one_object_on_one_line() -> None:
    line = JsonFormatter().format(record("one\ntwo\x85\N{LINE SEPARATOR}", error=failure()))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])
    assert (found["level"], found["logger"], found["message"]) == ("ERROR", "front", "one\ntwo\x85\N{LINE SEPARATOR}")
    assert found["exception"].startswith("Traceback")
    assert found["exception"].endswith("ValueError: two\nlines, and \N{GREEK SMALL LETTER ALPHA}")
    assert list(json.loads(JsonFormatter().format(record()))) == ["time", "level", "logger", "message"]


def test_text_has_local_times_or_those_of_rfc_3339() -> None:
    formatter, one = TextFormatter(), record("hello", logging.INFO)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO front: hello", formatter.format(one))
    formatter.iso8601 = True
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO front: hello", formatter.format(one))


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_record_of_a_front_is_logged_as_if_it_were_made_here(formatter: logging.Formatter) -> None:
    sent = record("caf\N{LATIN SMALL LETTER E WITH ACUTE} 100%", logging.WARNING, failure())
    expected = formatter.format(sent)
    received = from_front(FrontFormatter().format(sent), "front")
    assert received is not None
    assert received.levelno == logging.WARNING
    assert formatter.format(received) == expected


def test_the_longest_record_of_a_front_fits_into_a_line() -> None:
    sent = record("\x00" * 100_000, error=ValueError("\x01" * 100_000 + "the end"))
    line = FrontFormatter().format(sent)
    assert len(line.encode()) < 1 << 16
    received = from_front(line, "front")
    assert received is not None
    assert received.exc_text is not None
    assert received.exc_text.endswith("the end")


@pytest.mark.parametrize("line", ["hello", "{}", "\x1e", '\x1e{"time": 1.5, "level": 40, "mess'])
def test_other_output_of_a_front_is_no_record(line: str) -> None:
    assert from_front(line, "front") is None


def test_a_child_logs_records_with_their_levels(caplog: pytest.LogCaptureFixture) -> None:
    script = """if True:
        import logging
        from gateway.process.logs import FrontFormatter
        handler = logging.StreamHandler()
        handler.setFormatter(FrontFormatter())
        logging.basicConfig(level=logging.DEBUG, handlers=[handler])
        print("plain", flush=True)
        logging.debug("details")
        logging.warning("look out")
    """

    async def run() -> None:
        log = logging.getLogger("child.1")
        child = await Child.spawn(
            [sys.executable, "-c", script], log, (), to_record=partial(from_front, logger="child.1")
        )
        await child.wait()

    caplog.set_level(logging.INFO, logger="child")
    asyncio.run(run())
    found = [(each.name, each.levelname, each.getMessage()) for each in caplog.records if each.name.startswith("child")]
    assert found == [("child.1", "INFO", "plain"), ("child.1", "WARNING", "look out")]
