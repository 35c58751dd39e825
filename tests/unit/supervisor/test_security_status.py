"""What this machine does not enforce is in the log, in /v2/security and in the metrics, never silently missing."""

import logging
from collections.abc import Iterator

import pytest

from gateway.config import Settings
from gateway.supervisor import security
from gateway.supervisor.security import (
    Protection,
    SecurityStatus,
    front_protections,
    server_protections,
    worker_protections,
)


def features() -> Iterator[tuple[str, str]]:
    yield "files", ""
    yield "network", "it needs Landlock's version 4, and the machine has version 3"


def test_each_feature_says_whether_it_is_enforced_and_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "features", features)
    found = worker_protections(Settings(), "the gateway's control group has not been delegated to it")
    assert found["sandbox_files"] == Protection(True, "")
    assert found["sandbox_network"].enforced is False
    assert "version 3" in found["sandbox_network"].reason
    assert "has not been delegated" in found["memory_limit"].reason
    assert worker_protections(Settings(), "")["memory_limit"] == Protection(True, "by a control group")


@pytest.mark.parametrize(("version", "missing"), [(7, []), (4, ["signals"]), (2, ["truncation", "signals"])])
def test_fronts_have_no_filter_of_system_calls_in_place_of_landlock(
    monkeypatch: pytest.MonkeyPatch, version: int, missing: list[str]
) -> None:
    monkeypatch.setattr("runtimes.sandbox.landlock.IS_LINUX", True)
    monkeypatch.setattr("gateway.front.box.IS_LINUX", True)
    monkeypatch.setattr("runtimes.sandbox.landlock.version", lambda: version)
    found = front_protections(Settings())
    assert [name for name, each in found.items() if not each.enforced] == [f"front_{name}" for name in missing]
    assert all(f"and the machine has version {version}" in found[f"front_{name}"].reason for name in missing)


def test_the_setting_switches_all_of_it_off() -> None:
    found = worker_protections(Settings(sandbox=False), "")
    boxed = [each for name, each in found.items() if name.startswith("sandbox_")]
    assert boxed
    boxed += front_protections(Settings(sandbox=False)).values()
    assert all(each == Protection(False, "the setting sandbox is off") for each in boxed)


def test_another_system_enforces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "IS_LINUX", False)
    monkeypatch.setattr("runtimes.sandbox.box.IS_LINUX", False)
    monkeypatch.setattr("runtimes.sandbox.landlock.IS_LINUX", False)
    monkeypatch.setattr("runtimes.sandbox.seccomp.IS_LINUX", False)
    found = worker_protections(Settings(), "this system has no control groups")
    assert [name for name, each in found.items() if each.enforced] == []
    assert all(each.reason for each in found.values())


def test_what_is_configured_against_clients_is_stated() -> None:
    nothing = server_protections(Settings(), "anyone may query models, but nobody may change them")
    assert [name for name, each in nothing.items() if each.enforced] == []
    assert nothing["identities"].reason == "anyone may query models, but nobody may change them"
    assert "only this machine" in server_protections(Settings(), "")["identities"].reason
    settings = Settings(tls_cert="a", tls_key="b", tls_client_ca="c", identities="d", audit_log="e")
    assert all(each == Protection(True) for each in server_protections(settings, "").values())


def test_what_is_missing_is_logged_once_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    workers = {"a": Protection(False, "no x"), "b": Protection(True), "c": Protection(False, "no x")}
    status = SecurityStatus(workers, {"d": Protection(False, "no y")})
    status.log()
    SecurityStatus({"b": Protection(True)}, {}).log()
    assert [record.getMessage() for record in caplog.records] == [
        "security: not enforced: a, c: no x",
        "security: this machine enforces every limit of workers and fronts",
    ]
    [family] = status.collect()
    assert {sample.labels["feature"]: sample.value for sample in family.samples} == {"a": 0, "b": 1, "c": 0, "d": 0}
    assert status.to_json()["a"] == {"enforced": False, "reason": "no x"}
