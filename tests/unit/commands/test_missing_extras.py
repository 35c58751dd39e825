"""Commands that need a package of an extra say so in one sentence if it is not there."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("engine", ["local", "spark", "ray"])
def test_score_names_its_extra(engine: str) -> None:
    program = "import sys; sys.modules['pyarrow'] = None; from gateway.cli import main; sys.exit(main())"
    arguments = ["score", "model.onnx", "in.csv", "--output", "out.csv", "--engine", engine]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "modelport: modelport score needs the package pyarrow: pip install 'modelport[score]'\n"
