"""ONNX Runtime's providers: which ones are requested, and that no session silently falls back to the CPU."""

from typing import Any

import pytest

from runtimes.contract import LoadError
from runtimes.onnx.providers import CPU, CUDA, TENSORRT, available, check, describe, requested, with_options

OPENVINO = "OpenVINOExecutionProvider"
ALLOWED = {"allow_cpu_fallback": True}


@pytest.mark.parametrize(
    ("device", "parameters", "wanted"),
    [
        ("cpu", {}, [CPU]),
        ("cpu", {"tensorrt": True}, [CPU]),
        ("cuda", {}, [CUDA, CPU]),
        ("cuda", {"tensorrt": True}, [TENSORRT, CUDA, CPU]),
        ("cuda", {"execution_providers": ["TensorrtExecutionProvider", "CPU"]}, [TENSORRT, CUDA, CPU]),
        ("cpu", {"execution_providers": ["openvino", "OpenVINO"]}, [OPENVINO, CPU]),
        ("cpu", {"execution_providers": ["cuda", "XNNPACK"]}, ["XnnpackExecutionProvider", CPU]),
    ],
)
def test_what_is_asked_for(device: str, parameters: dict[str, Any], wanted: list[str]) -> None:
    assert requested(device, parameters) == wanted


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_wrong_parameter_is_refused(value: Any) -> None:
    with pytest.raises(LoadError, match=r"'parameters\.tensorrt' in model\.toml is .*, but it must be false or true"):
        requested("cuda", {"tensorrt": value})


def test_a_provider_that_the_build_lacks_is_reported() -> None:
    built_in = ["AzureExecutionProvider", CUDA, CPU]
    with pytest.raises(
        LoadError, match="ONNX Runtime has no TensorRT, only CUDA and CPU; the wheel onnxruntime-gpu has it, which"
    ):
        available([TENSORRT, CUDA, CPU], built_in, {})
    assert available([TENSORRT, CUDA, CPU], [CUDA, CPU], ALLOWED) == [CUDA, CPU]


SOURCES = {
    "CUDA": "the wheel onnxruntime-gpu has it",
    "NvTensorRTRTX": "the wheel onnxruntime-ep-nv-tensorrt-rtx has it",
    "MIGraphX": "the wheel onnxruntime-migraphx has it",
    "OpenVINO": 'extras = ["openvino"] in model.toml adds it',
    "XNNPACK": "no wheel has it, but Debian's python3-onnxruntime does",
    "DNNL": "no wheel has it, but Debian's python3-onnxruntime does",
    "ACL": "no wheel has it; build ONNX Runtime with --use_acl",
    "ArmNN": "no wheel has it; build ONNX Runtime with --use_armnn",
    "CoreML": "the wheel onnxruntime for macOS has it",
    "QNN": "the wheel onnxruntime-qnn has it",
}


@pytest.mark.parametrize("title", SOURCES)
def test_where_to_get_a_provider_is_said(title: str) -> None:
    name = requested("cuda", {"execution_providers": [title, "CPU"]})[0]
    with pytest.raises(LoadError) as caught:
        available([name, CPU], [CPU], {})
    assert f"this build of ONNX Runtime has no {title}, only CPU; {SOURCES[title]}" in str(caught.value)


def test_a_session_that_fell_back_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LoadError, match="ONNX Runtime cannot use CUDA here"):
        check([CUDA, CPU], [CPU], {})
    check([CUDA, CPU], [CPU], ALLOWED)
    assert "ONNX Runtime cannot use CUDA here" in capsys.readouterr().out


def test_a_session_that_runs_where_it_should_is_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    check([CUDA, CPU], [CUDA, CPU], {})
    assert capsys.readouterr().out == ""


def test_an_unknown_provider_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(LoadError, match=r"there is no execution provider 'GPU'; there are CUDA, TensorRT, .*OpenVINO"):
        requested("cpu", {"execution_providers": ["GPU"]})


def test_options_are_texts() -> None:
    options = {"openvino": {"device_type": "GPU", "num_of_threads": 2, "disable_dynamic_shapes": True}}
    texts = {"device_type": "GPU", "num_of_threads": "2", "disable_dynamic_shapes": "true"}
    assert with_options([OPENVINO, CPU], {"provider_options": options}, 1) == [(OPENVINO, texts), (CPU, {})]
    for wrong in ([], {"OpenVINO": "CPU"}):
        with pytest.raises(LoadError, match="must have a table for each provider"):
            with_options([OPENVINO, CPU], {"provider_options": wrong}, 1)


@pytest.mark.parametrize("device", [{}, {"device_type": "CPU"}, {"device_type": "HETERO:CPU"}])
def test_openvino_selects_the_cpu_by_auto_which_reports_errors(device: dict[str, str]) -> None:
    texts = {"device_type": "AUTO:CPU", "precision": "FP32", "num_of_threads": "3"}
    assert with_options([OPENVINO, CPU], {"provider_options": {"OpenVINO": device}}, 3)[0] == (OPENVINO, texts)
    half = {"provider_options": {"OpenVINO": {**device, "precision": "FP16"}}}
    assert with_options([OPENVINO], half, 3)[0][1]["precision"] == "FP16"


ASKED = {"execution_providers": ["OpenVINO"]}


@pytest.mark.parametrize(
    ("device", "parameters", "running", "assigned", "expected"),
    [
        ("cpu", {}, [CPU], [], ""),
        ("cpu", {"tensorrt": False, "execution_providers": ["CPU"]}, [CPU], [], ""),
        (
            "cpu",
            ASKED,
            [OPENVINO, CPU],
            [(OPENVINO, "Conv"), (OPENVINO, "Relu")],
            "of 2 operators, OpenVINO runs 2, CPU runs 0",
        ),
        (
            "cpu",
            ASKED,
            [OPENVINO, CPU],
            [(OPENVINO, "Conv"), *((CPU, operator) for operator in ("ZipMap", "A", "B", "C", "ZipMap"))],
            "of 6 operators, OpenVINO runs 1, CPU runs 5 (ZipMap, A, B, …)",
        ),
        ("cpu", ASKED, [OPENVINO, CPU], [], "ONNX Runtime does not say which operators OpenVINO runs"),
        ("cpu", ASKED, [CPU], [], "OpenVINO cannot be used, as the log says"),
        (
            "cpu",
            {"execution_providers": ["CUDA"]},
            [CPU],
            [],
            "CUDA is not used: the model does not run on a card (device in model.toml)",
        ),
        ("cuda", {}, [CUDA, CPU], [(CUDA, "Conv")], "of 1 operator, CUDA runs 1, CPU runs 0"),
        ("cuda", {}, [CPU], [], "CUDA cannot be used, as the log says"),
    ],
)
def test_what_falls_back_to_the_cpu_is_said(
    device: str, parameters: dict[str, Any], running: list[str], assigned: list[tuple[str, str]], expected: str
) -> None:
    assert describe(device, parameters, running, assigned) == expected
