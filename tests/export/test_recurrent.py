"""Recurrent layers and Scans of ONNX written out step by step compute what ONNX Runtime computes, or are refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.environments.environment import Environment


def told_by(script: str, environment: Environment) -> dict[str, Any]:
    command = [str(environment.python), str(Path(__file__).with_name(script))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_scans_written_out_compute_the_same(export_environment: Callable[[str], Environment]) -> None:
    told = told_by("scan_script.py", export_environment("export-tf"))
    # Steps that are not told, or too many, or graphs within the body: left for the tool to refuse.
    assert [told.pop(name) for name in ("open", "long", "nested")] == [["Scan"]] * 3
    assert len(told) == 6
    assert told == pytest.approx(dict.fromkeys(told, 0.0), abs=1e-6)


def test_layers_written_out_compute_the_same(export_environment: Callable[[str], Environment]) -> None:
    told = told_by("recurrent_script.py", export_environment("export-tf"))
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
