"""The threads of an ONNX model leave their cores to others while there is nothing to do."""

import subprocess
from collections.abc import Callable

import pytest

from gateway.environments.environment import Environment
from tests.support import ROOT

PROGRAM = """
import sys
import onnxruntime
from runtimes.contract import LoadOptions
from runtimes.onnx.session import new_session

options = LoadOptions(artifact=sys.argv[1], threads=2, parameters=eval(sys.argv[2]))
session = new_session(sys.argv[1], options, onnxruntime.SessionOptions())
print(session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning"))
"""


@pytest.mark.parametrize(("parameters", "allowed"), [({}, "0"), ({"allow_spinning": True}, "1")])
def test_they_spin_only_if_model_toml_allows_it(
    runtime_environment: Callable[[str], Environment], parameters: dict[str, bool], allowed: str
) -> None:
    python = runtime_environment("onnx").python
    model = ROOT / "model_repo" / "digits_onnx" / "1" / "model.onnx"
    command = [str(python), "-c", PROGRAM, str(model), repr(parameters)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [allowed]
