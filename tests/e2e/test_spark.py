"""Spark with two executors on this machine, in an environment of its own."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.config import home
from gateway.environments.environment import Environment
from tests.support import ROOT
from tests.support.client_environments import engines_python, run_client
from tests.support.environments import skip_or_fail
from tests.support.model_repositories import add_fake


def test_models_in_executors(tmp_path: Path, runtime_environment: Callable[[str], Environment]) -> None:
    if shutil.which("java") is None:
        skip_or_fail("Spark needs Java 17 or newer: install it (make apt)")
    runtime_environment("onnx")
    add_fake(tmp_path / "repository", "plain")
    # A task has 16 rows that run one by one, because two others of their batch are refused: a second for each task.
    add_fake(tmp_path / "repository", "slow", seconds_per_batch=0.06)
    # The driver has the fake runtime. Executors build it, and find the other runtimes.
    (tmp_path / "modelport.toml").write_text(f'[runtimes.fake]\npython = "{sys.executable}"\n')
    (tmp_path / "home" / "environments").mkdir(parents=True)
    for each in (home() / "environments").glob("onnx-*"):
        (tmp_path / "home" / "environments" / each.name).symlink_to(each)
    script, digits = Path(__file__).parent / "spark_script.py", ROOT / "model_repo" / "digits_onnx"
    output = run_client(engines_python(), script, str(tmp_path), str(digits), cwd=tmp_path)
    assert "all of it worked" in output
