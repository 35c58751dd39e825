"""The log as text and as JSON, and what changes in it while the gateway runs."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Callable

import pytest

from gateway.config import LogFormat
from gateway.domain.log_settings import DEFAULT_FORMAT, ISO8601
from gateway.errors import Unsupported
from gateway.supervisor.log_output import LogOutput


@pytest.fixture
def install() -> Callable[[LogFormat], LogOutput]:
    """What it changes is undone after each test: tests/conftest.py."""

    def run(kind: LogFormat) -> LogOutput:
        output = LogOutput(kind)
        output.install()
        return output

    return run


def test_text_follows_its_settings(
    install: Callable[[LogFormat], LogOutput], capsys: pytest.CaptureFixture[str]
) -> None:
    output = install("text")
    log = logging.getLogger("models")
    log.debug("hidden")
    log.info("m is READY")
    assert output.change({"log_info": False, "log_verbose_level": 1}).log_format == DEFAULT_FORMAT
    log.info("hidden, too")
    log.debug("details")
    output.change({"log_info": True, "log_verbose_level": 0, "log_format": ISO8601})
    log.info("shown")
    log.debug("hidden")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("Z ")[2] or line[24:] for line in lines] == [
        "INFO models: m is READY", "DEBUG models: details", "INFO models: shown"
    ]  # fmt: skip


def test_everything_is_json_if_the_log_is(
    install: Callable[[LogFormat], LogOutput], capsys: pytest.CaptureFixture[str]
) -> None:
    output = install("json")
    assert output.settings.log_format == ISO8601
    with pytest.raises(Unsupported):
        output.change({"log_format": DEFAULT_FORMAT})
    logging.getLogger("worker.m").info("it prints\na line")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.warn("an old function is used", DeprecationWarning, stacklevel=1)
    try:
        raise OSError("no more processes")
    except OSError:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(each["level"], each["logger"]) for each in lines] == [
        ("INFO", "worker.m"), ("WARNING", "py.warnings"), ("CRITICAL", "gateway")
    ]  # fmt: skip
    assert "an old function is used" in lines[1]["message"]
    assert lines[2]["exception"].endswith("OSError: no more processes")


def test_a_terminal_has_times_of_its_own() -> None:
    terminal = logging.StreamHandler(io.StringIO())
    output = LogOutput("text", terminal)
    assert output.settings.log_format == DEFAULT_FORMAT
    with pytest.raises(Unsupported):
        output.change({"log_format": ISO8601})
    assert output.change({"log_info": False}).log_info is False
    terminal.handle(logging.LogRecord("m", logging.WARNING, "", 0, "shown", None, None))
    terminal.handle(logging.LogRecord("m", logging.INFO, "", 0, "hidden", None, None))
    assert terminal.stream.getvalue() == "m: shown\n"
