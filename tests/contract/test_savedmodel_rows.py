"""The analysis of rows in TensorFlow's graphs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(runtime_python: Callable[[str], Path]) -> Any:
    command = [runtime_python("savedmodel"), "-I", HERE / "savedmodel_rows_script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_rows_that_stay_apart(found: Any) -> None:
    wrong = {name: each for name, each in found["independent"].items() if any(each.values())}
    assert found["independent"]
    assert not wrong


def test_what_mixes_rows_is_named(found: Any) -> None:
    wrong = {words: each for words, each in found["mixes"].items() if not any(words in why for why in each["mixes"])}
    assert found["mixes"]
    assert not wrong


def test_what_is_not_followed_is_no_finding(found: Any) -> None:
    assert found["unknown"]
    for name, each in found["unknown"].items():
        assert not each["mixes"], name
        assert each["unknown"], name


def test_random_numbers_are_found_in_branches_too(found: Any) -> None:
    assert found["random"]
    for operator, each in found["random"].items():
        assert each["random"].startswith(operator)
        assert each["random"].endswith("is random")


def test_inputs_have_the_names_that_clients_use(found: Any) -> None:
    assert found["unknown"]["fixed first dimension"]["unknown"] == ["input 'given' has a fixed first dimension"]
