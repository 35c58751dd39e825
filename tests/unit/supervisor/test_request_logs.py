"""The access log's file or descriptor."""

import os
from pathlib import Path

import pytest

from gateway.config import Settings, SettingsError
from gateway.supervisor.request_logs import RequestLogs


@pytest.mark.parametrize(("path", "said"), [("missing/access.log", "No such file"), ("", "Is a directory")])
def test_an_access_log_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path, path: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"the access log .* cannot be written: {said}.*; set access_log to a file"):
        RequestLogs(Settings(access_log=str(tmp_path / path)))


def test_the_access_log_may_be_standard_output_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(access_log="-")
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(SettingsError, match="access_log is -, but standard output is closed"):
        RequestLogs(settings)
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        logs = RequestLogs(settings)
        descriptor = logs.access_descriptor
        assert os.path.sameopenfile(descriptor, file.fileno())
        assert descriptor != file.fileno()
        logs.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
