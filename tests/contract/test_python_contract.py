"""The contract suite over Python models in both forms, in the runtime's own environment."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.test_contract import run_suite

X_Y = {"inputs": [["x", "FP32", [-1, 4]]], "outputs": [["y", "FP32", [-1, 4]]]}
BAD = {"expected_signature": X_Y, "bad": [{"x": [[400.0, 1.0, 1.0, 1.0]]}]}
TEXTS = {"values": {"number": [1, 2], "text": ["x", "grün"]}}
MODELS = {
    "own": (
        """
from modelport import InvalidInput
class Model:
    def predict(self, x: "FP32[-1, 4]") -> {"y": "FP32[-1, 4]"}:
        if (x == 400).any():
            raise InvalidInput("400 is too much")
        return {"y": x}
""",
        BAD,
    ),
    "strings": (
        """
class Model:
    def predict(self, number: "INT64[-1]", text: "BYTES[-1]") -> {"twice": "INT64[-1]", "loud": "BYTES[-1]"}:
        return {"twice": number * 2, "loud": [each.decode().upper() for each in text]}
""",
        TEXTS,
    ),
    "triton": (
        """
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        return config
    def execute(self, requests):
        x = pb_utils.get_input_tensor_by_name(requests[0], "x").as_numpy()
        if (x == 400).any():
            error = pb_utils.TritonError("400 is too much", pb_utils.TritonError.INVALID_ARG)
            return [pb_utils.InferenceResponse(error=error)]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])]
""",
        BAD,
    ),
}


@pytest.mark.runtime("python")
@pytest.mark.parametrize("name", MODELS)
def test_a_python_model_keeps_the_contract(name: str, runtime_python: Callable[[str], Path], tmp_path: Path) -> None:
    source, case = MODELS[name]
    (tmp_path / "model.py").write_text(source)
    (tmp_path / "case.json").write_text(json.dumps(case))
    run_suite(runtime_python("python"), "python", tmp_path / "model.py", tmp_path / "case.json")
