"""Unrolled recurrent layers and Scans of ONNX compute what ONNX Runtime computes, or are refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.environments.environment import Environment


def output_of(script: str, environment: Environment) -> dict[str, Any]:
    command = [str(environment.python), str(Path(__file__).with_name(script))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_unrolled_scans_compute_the_same(export_environment: Callable[[str], Environment]) -> None:
    results = output_of("scan_script.py", export_environment("export-tf"))
    # The converter itself refuses a dynamic number of steps, too many steps, and a body with subgraphs.
    assert [results.pop(name) for name in ("open", "long", "nested")] == [["Scan"]] * 3
    assert len(results) == 6
    assert results == pytest.approx(dict.fromkeys(results, 0.0), abs=1e-6)


def test_unrolled_layers_compute_the_same(export_environment: Callable[[str], Environment]) -> None:
    results = output_of("recurrent_script.py", export_environment("export-tf"))
    refused = {name: answer for name, answer in results.items() if isinstance(answer, str)}
    assert refused == dict.fromkeys(
        ("other activations", "clip", "shorter"), "the model has a layer LSTM with settings that cannot be unrolled"
    )
    # LSTM with and without peepholes, RNN, GRU in both forms × directions × with and without biases × with and without
    # initial states; lengths, the default activations, others
    assert len(results) == 5 * 3 * 2 * 2 + 2 + 3 + len(refused)
    assert {name: answer for name, answer in results.items() if name not in refused} == pytest.approx(
        dict.fromkeys(results.keys() - refused.keys(), 0.0), abs=1e-5
    )
