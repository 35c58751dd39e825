"""Recurrent layers of ONNX written out step by step compute what ONNX Runtime computes, or are refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.environments.environment import Environment


def test_layers_written_out_compute_the_same(export_environment: Callable[[str], Environment]) -> None:
    script = Path(__file__).with_name("recurrent_script.py")
    command = [str(export_environment("export-tf").python), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    refused = {name: answer for name, answer in told.items() if isinstance(answer, str)}
    assert refused == dict.fromkeys(
        ("other activations", "clip", "shorter"), "the model has a layer LSTM with settings that are not written out"
    )
    # LSTM with and without peepholes, RNN, GRU and its other form × directions × biases or none × states given or zero;
    # lengths, the usual activations, others
    assert len(told) == 5 * 3 * 2 * 2 + 2 + 3 + len(refused)
    assert {name: answer for name, answer in told.items() if name not in refused} == pytest.approx(
        dict.fromkeys(told.keys() - refused.keys(), 0.0), abs=1e-5
    )
