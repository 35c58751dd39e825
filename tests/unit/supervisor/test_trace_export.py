"""Where traces go: as the setting says, or as the variables of OpenTelemetry do."""

import pytest

from gateway.config import Settings, SettingsError
from gateway.supervisor import tracing
from gateway.supervisor.tracing import trace_endpoint, trace_table

URL = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_SDK_DISABLED": "True"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, None),
    ],
)
def test_the_variables_of_opentelemetry(environment: dict[str, str], expected: str | None) -> None:
    assert trace_endpoint(Settings(), environment) == expected


def test_the_setting_overrides_them() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert trace_endpoint(Settings(otlp_endpoint=URL), environment) == URL


@pytest.mark.parametrize("url", ["127.0.0.1:4318", "grpc://host:4317", "http://", "http://host/?key=secret"])
def test_what_is_not_a_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match="not the URL of a collector") as refused:
        trace_endpoint(Settings(otlp_endpoint=url), {})
    assert "secret" not in str(refused.value)


def test_without_the_extra_a_setting_is_refused_and_a_variable_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "_is_installed", lambda: False)
    with pytest.raises(SettingsError, match=r"modelport\[otel\]"):
        trace_endpoint(Settings(otlp_endpoint=URL), {})
    assert trace_endpoint(Settings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}) is None
    assert "modelport[otel]" in caplog.text


@pytest.mark.parametrize(("ratio", "rate"), [(0.01, "100"), (1, "1"), (0, "0"), (0.3, "3")])
def test_the_ratio_is_a_trace_rate(ratio: float, rate: str) -> None:
    settings = trace_table(Settings(trace_ratio=ratio), URL).settings().to_json()
    assert (settings["trace_rate"], settings["trace_level"]) == (rate, ["TIMESTAMPS"])
    assert trace_table(Settings(trace_ratio=ratio), None).settings().to_json()["trace_level"] == ["OFF"]
