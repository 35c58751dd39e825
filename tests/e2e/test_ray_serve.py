"""Ray Serve on two nodes of this machine, in an environment of its own."""

import sys
from pathlib import Path

from tests.support.client_environments import engines_python, run_client
from tests.support.model_repositories import add_fake


def test_a_gateway_on_each_node(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    add_fake(repository, "plain")
    add_fake(repository, "gated", waits_for=str(tmp_path / "gate"), toml="max_batch_size = 1")
    add_fake(repository, "stream", answers=2, answer_waits_for=str(tmp_path / "step"))
    (tmp_path / "gate").touch()
    script = Path(__file__).parent / "ray_serve_script.py"
    output = run_client(engines_python(), script, str(repository), sys.executable)
    assert "all of it worked" in output
