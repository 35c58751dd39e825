"""Exports of arithmetic that torch.onnx, tf2onnx and onnx2tf get wrong unless modelport corrects it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from gateway.environments.environment import Environment

SCRIPT = Path(__file__).with_name("arithmetic_script.py")


def test_whole_numbers_below_zero_and_wide_logits(
    export_environment: Callable[[str], Environment], tmp_path: Path
) -> None:
    """// % >> of negative numbers; log-sigmoid and similar functions far from zero; operators that onnx2tf lacks
    or drops; transformers that were traced through PyTorch's fast path."""
    said = []
    for name in ("export-torch", "export-tf"):
        command = [str(export_environment(name).python), str(SCRIPT), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(json.loads(done.stdout.splitlines()[-1]))
    refused, found = said
    assert list(refused) == ["masked"]
    assert "torch.backends.mha.set_fastpath_enabled(False)" in refused["masked"]
    assert len(found) == 8 + 8
    assert {key: names for key, names in found.items() if names} == {}
