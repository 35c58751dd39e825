"""Which records the settings of the log let through, and which changes of them are possible."""

import logging
from typing import Any

import pytest

from gateway.domain.log_settings import DEFAULT_FORMAT, ISO8601, LogSettings
from gateway.errors import InvalidRequest, Unsupported

FORMATS = (DEFAULT_FORMAT, ISO8601)
LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def shown(settings: LogSettings, logger: str) -> list[str]:
    records = [logging.LogRecord(logger, level, "", 0, "", None, None) for level in LEVELS]
    return [each.levelname for each in records if settings.shows(each)]


@pytest.mark.parametrize(
    ("changes", "own", "library"),
    [
        ({}, ["INFO", "WARNING", "ERROR", "CRITICAL"], ["INFO", "WARNING", "ERROR", "CRITICAL"]),
        ({"log_info": False}, ["WARNING", "ERROR", "CRITICAL"], ["WARNING", "ERROR", "CRITICAL"]),
        ({"log_warning": False}, ["INFO", "ERROR", "CRITICAL"], ["INFO", "ERROR", "CRITICAL"]),
        ({"log_error": False}, ["INFO", "WARNING"], ["INFO", "WARNING"]),
        ({"log_verbose_level": 1, "log_info": False, "log_warning": False}, ["DEBUG", "ERROR", "CRITICAL"],
         ["ERROR", "CRITICAL"]),
        ({"log_verbose_level": 2, "log_error": False, "log_info": None}, ["DEBUG", "INFO", "WARNING"],
         ["DEBUG", "INFO", "WARNING"]),
    ],
)  # fmt: skip
def test_each_level_is_switched_on_its_own(changes: dict[str, Any], own: list[str], library: list[str]) -> None:
    settings = LogSettings().changed(changes, FORMATS)
    assert shown(settings, "worker.m") == own
    assert shown(settings, "asyncio") == library
    assert settings.level == (logging.DEBUG if "log_verbose_level" in changes else logging.INFO)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"log_info": 1}, InvalidRequest, "'log_info' must be true or false"),
        ({"log_error": "true"}, InvalidRequest, "'log_error' must be true or false"),
        ({"log_verbose_level": True}, InvalidRequest, "'log_verbose_level' must be an integer from 0"),
        ({"log_verbose_level": -1}, InvalidRequest, "'log_verbose_level' must be an integer from 0"),
        ({"log_verbose_level": 1 << 32}, InvalidRequest, "to 4294967295"),
        ({"log_format": "json"}, InvalidRequest, "'log_format' must be 'default' or 'ISO8601'"),
        ({"log_file": 3}, InvalidRequest, "'log_file' must be a string"),
        ({"log_file": "a.log", "log_info": False}, Unsupported, "'log_file' cannot be changed, because"),
        ({"log_warnings": True}, InvalidRequest, "there is no log setting 'log_warnings'; the settings are log_file,"),
    ],
)
def test_an_impossible_change_says_why(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said.replace("[", r"\[")):
        LogSettings().changed(changes, FORMATS)


def test_what_was_read_can_be_written_again() -> None:
    for log_format in FORMATS:
        settings = LogSettings(log_verbose_level=3, log_warning=False, log_format=log_format)
        assert LogSettings().changed(settings.to_json(), FORMATS) == settings


def test_the_format_depends_on_how_the_gateway_logs() -> None:
    with pytest.raises(Unsupported, match="'log_format' cannot be 'default' with this server's --log; use 'ISO8601'"):
        LogSettings(log_format=ISO8601).changed({"log_format": DEFAULT_FORMAT}, [ISO8601])
