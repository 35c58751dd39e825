"""Flags before environment before modelport.toml before defaults."""

from pathlib import Path

import pytest

from gateway.config import Address, SettingsError, Sources, parse_address, read_settings


def sources(folder: Path, toml: str = "", environment: dict[str, str] | None = None, **flags: object) -> Sources:
    if toml:
        (folder / "modelport.toml").write_text(toml)
    return Sources(flags, environment or {}, folder)


def test_the_nearer_source_wins(tmp_path: Path) -> None:
    toml = 'fronts = 2\npoll_s = 7\nhttp = "0.0.0.0:1"'
    settings = read_settings(sources(tmp_path, toml, {"MODELPORT_FRONTS": "3", "MODELPORT_POLL_S": "8"}, fronts=4))
    assert (settings.fronts, settings.poll_s, settings.http, settings.grpc) == (4, 8.0, "0.0.0.0:1", "127.0.0.1:8001")


def test_a_runtime_can_be_pointed_at_an_interpreter(tmp_path: Path) -> None:
    settings = read_settings(sources(tmp_path, '[runtimes.torchscript]\npython = "/opt/torch/bin/python"'))
    assert settings.runtimes["torchscript"].python == Path("/opt/torch/bin/python")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"toml": "front = 2"}, "modelport.toml: there is no key 'front'; the keys are"),
        ({"toml": "fronts ="}, "modelport.toml is not TOML"),
        ({"environment": {"MODELPORT_FRONTS": "x"}}, "MODELPORT_FRONTS: 'fronts' is 'x', but"),
        ({"fronts": "0"}, "--fronts: 'fronts' is '0', but input should be greater than or equal to 1"),
        ({"http": "8000"}, "--http: '8000' is not an address; HOST:PORT is wanted"),
    ],
)
def test_wrong_settings_name_their_source(tmp_path: Path, given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(sources(tmp_path, **given))  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_addresses() -> None:
    assert parse_address("[::1]:80") == Address("::1", 80)
    assert str(Address("::1", 80)) == "[::1]:80"
