"""schemathesis, unmodified, over our own OpenAPI document: no 5xx, and no status that is not documented."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client_environments import client_python
from tests.support.gateway_process import Gateway
from tests.support.model_repositories import add_fake

CHECKS = "not_a_server_error,status_code_conformance"
# Requests with generated names, and to models that exist. The latter do not unload models, since none would be left.
PASSES = {
    "any names": ("", ()),
    "known names": (
        '[parameters]\nmodel = "m"\nversion = "1"\nregion = "r"\n',
        ("--exclude-path-regex", "unload|unregister"),
    ),
}


@pytest.mark.parametrize("name", list(PASSES))
def test_no_request_gets_an_answer_that_is_not_documented(
    gateway: Callable[..., Gateway], tmp_path: Path, name: str
) -> None:
    settings, arguments = PASSES[name]
    python = client_python("schemathesis", "schemathesis==4.32.5")
    add_fake(tmp_path / "repository", "m")
    running = gateway(tmp_path / "repository", "--shared-memory").wait_ready()
    file = tmp_path / "schemathesis.toml"
    file.write_text(settings)
    command = [str(python.parent / "st"), "--config-file", str(file), "run", f"http://{running.http}/openapi.json"]
    command += ["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--seed", "1"]
    command += ["--continue-on-failure", "--no-color", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✅ Fuzzing" in done.stdout
    (statistics,) = running.get("/v2/models/m/stats").json()["model_stats"]
    reached = sum(statistics["inference_stats"][outcome]["count"] for outcome in ("success", "fail"))
    assert (reached > 100) == (name == "known names")
    assert running.infer("m", {"x": [[1, 1, 1, 1]]}) == {"y": [[2, 2, 2, 2]]}
