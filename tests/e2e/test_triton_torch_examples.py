"""Triton's examples whose model.py needs torchvision, unmodified, in the environment that has PyTorch.

They run as the runtime `python` runs them, but without a gateway: an environment of their own would be a second
PyTorch, which takes longer to install than the tests may take.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.environments.runtime import read_runtime
from gateway.repository.model_toml import ModelConfigError
from gateway.repository.pbtxt import read_config_pbtxt
from tests.e2e.test_archives_served import TORCHSERVE
from tests.support import ROOT
from tests.support.client_environments import client_python, run_client
from tests.support.triton_examples import backend_example


@pytest.mark.parametrize("example", ["instance_kind", "preprocessing"])
def test_the_model_answers_what_torchvision_does(
    example: str, runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    model = backend_example(f"{example}/model.py")
    torch = runtime_python("torchscript")
    tools = client_python("torchserve", *TORCHSERVE, alone=("torchvision==0.28.0", "torchserve==0.12.0"))
    (packages,) = tools.parent.parent.glob("lib/python3*/site-packages")
    script = Path(__file__).parent / "triton_torch_examples_script.py"
    said = run_client(torch, script, str(packages), example, str(model), TORCH_HOME=str(tmp_path / "torch"))
    found = json.loads(said.splitlines()[-1])
    assert found["spread"] > 1
    assert found["off"] < 1e-5 * found["spread"], found


def test_the_repository_of_preprocessing_is_read_as_it_is_but_for_tensorrt() -> None:
    runtimes = {name: read_runtime(ROOT / "runtimes" / name, name) for name in ("python", "onnx")}
    folders = [f"preprocessing/model_repository/{name}" for name in ("ensemble_python_resnet50", "preprocess")]
    ensemble, preprocess = (read_config_pbtxt(backend_example(f"{each}/config.pbtxt"), runtimes) for each in folders)
    assert ([step.model for step in ensemble[0].steps], ensemble[1]) == (["preprocess", "resnet50_trt"], [])
    assert (preprocess[0].runtime, preprocess[0].device, preprocess[1]) == ("python", ("cpu",), [])
    with pytest.raises(ModelConfigError, match="asks for 'tensorrt_plan', which is not supported"):
        read_config_pbtxt(backend_example("preprocessing/model_repository/resnet50_trt/config.pbtxt"), runtimes)
