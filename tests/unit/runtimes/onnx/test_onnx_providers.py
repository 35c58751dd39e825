"""ONNX Runtime's providers: which ones are requested, and that no session silently falls back to the CPU."""

from typing import Any

import pytest

from runtimes.contract import LoadError
from runtimes.onnx.providers import CPU, CUDA, TENSORRT, available, check, requested

ALLOWED = {"allow_cpu_fallback": True}


@pytest.mark.parametrize(
    ("device", "parameters", "wanted"),
    [
        ("cpu", {}, [CPU]),
        ("cpu", {"tensorrt": True}, [CPU]),
        ("cuda", {}, [CUDA, CPU]),
        ("cuda", {"tensorrt": True}, [TENSORRT, CUDA, CPU]),
    ],
)
def test_what_is_asked_for(device: str, parameters: dict[str, Any], wanted: list[str]) -> None:
    assert requested(device, parameters) == wanted


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_wrong_parameter_is_refused(value: Any) -> None:
    with pytest.raises(LoadError, match=r"'parameters\.tensorrt' in model\.toml is .*, but it must be false or true"):
        requested("cuda", {"tensorrt": value})


def test_a_provider_that_the_build_lacks_is_reported() -> None:
    with pytest.raises(LoadError, match="this build of ONNX Runtime has no TensorRT; allow_cpu_fallback = true"):
        available([TENSORRT, CUDA, CPU], [CUDA, CPU], {})
    assert available([TENSORRT, CUDA, CPU], [CUDA, CPU], ALLOWED) == [CUDA, CPU]


def test_a_session_that_fell_back_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadError, match="ONNX Runtime cannot use CUDA here"):
        check([CUDA, CPU], [CPU], {})
    check([CUDA, CPU], [CPU], ALLOWED)
    assert "ONNX Runtime cannot use CUDA here" in capsys.readouterr().out


def test_a_session_that_runs_where_it_should_is_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    check([CUDA, CPU], [CUDA, CPU], {})
    assert capsys.readouterr().out == ""
