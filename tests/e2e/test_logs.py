"""The log of a real gateway as JSON, and its settings at run time, which reach every front."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake


def test_every_line_is_json_and_settings_reach_all_fronts(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "m")
    add_fake(repository, "broken", load_error="it is corrupt")
    running = gateway(repository, "--fronts", "2", "--log", "json").wait_ready()
    settings = running.post("/v2/logging", {"log_verbose_level": 1}).json()
    assert settings == {
        "log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 1,
        "log_format": "ISO8601",
    }  # fmt: skip
    for number in (1, 2):
        running.wait_for(rf'"level": "DEBUG", "logger": "front\.{number}"')
    # One that starts later has them, too.
    os.kill(running.front_pids()[0], signal.SIGKILL)
    running.wait_for(r'"level": "DEBUG", "logger": "front\.3"')
    assert running.post("/v2/logging", {"log_verbose_level": 0, "log_info": False}).status == 200
    shown = len(running.log)
    assert running.post("/v2/repository/models/m/load", {}).status == 200
    assert running.get("/v2/logging").json() == {**settings, "log_verbose_level": 0, "log_info": False}
    assert running.terminate() == 0
    running.close()
    lines: list[dict[str, Any]] = [json.loads(line) for line in running.log]
    assert {"time", "level", "logger", "message"} == set().union(*lines) - {"exception"}
    assert any(each["logger"] == "models" and "it is corrupt" in each["message"] for each in lines)
    assert any(each["logger"].startswith("front.") and each["message"] == "serving" for each in lines)
    # The last change itself was under way when the number of lines was taken.
    assert {each["level"] for each in lines[shown:]} <= {"DEBUG", "WARNING", "ERROR"}
