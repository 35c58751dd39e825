"""What the proof of an export takes for right: a model of PyTorch that computes in FP16 or BF16, run in FP32."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path


def test_models_in_16_bits_compute_in_fp32_what_models_in_fp32_do(runtime_python: Callable[[str], Path]) -> None:
    script = Path(__file__).with_name("fp32_script.py")
    command = [runtime_python("torchscript"), "-W", "ignore", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {}
