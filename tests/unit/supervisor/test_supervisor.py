"""What the supervisor opens is closed again if it cannot start."""

import importlib.util
from pathlib import Path

import pytest

from gateway.config import Settings, SettingsError
from gateway.supervisor.ports import Ports
from gateway.supervisor.supervisor import Supervisor


def test_a_tensorboard_log_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="tensorboard needs the package tensorboardX: pip install 'modelport"):
        Supervisor(tmp_path, Settings(tensorboard=str(tmp_path)), {})


def test_ports_are_free_again_after_a_wrong_setting(tmp_path: Path) -> None:
    settings = Settings(http="127.0.0.1:0", grpc="127.0.0.1:0", metrics="")
    ports = Ports(settings)
    numbers = ports.numbers()
    ports.close()
    same = settings.model_copy(update={name: f"127.0.0.1:{number}" for name, number in numbers.items()})
    with pytest.raises(SettingsError, match="the access log"):
        Supervisor(tmp_path, same.model_copy(update={"access_log": str(tmp_path)}), {})
    Supervisor(tmp_path, same, {}).close()
