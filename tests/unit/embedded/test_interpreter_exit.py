"""A program that ends while models are loaded: their workers end with it, and it says nothing about them."""

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.support.embedded_models import add_model

_PROGRAM = """
import atexit, contextlib, os, psutil
def wait():  # runs last: the workers have been killed, and the program goes on until they have ended
    for each in workers:
        with contextlib.suppress(ChildProcessError):  # somebody has read its status
            os.waitid(os.P_PID, each.pid, os.WEXITED | os.WNOWAIT)
atexit.register(wait)
from unittest.mock import patch
from gateway.environments.runtime import discover, read_runtime
from gateway.embedded import model as embedded
import modelport
from tests.support import ROOT
found = {**discover(), "fake": read_runtime(ROOT / "runtimes/fake", "fake")}
with patch.object(embedded, "discover", lambda: found):
    models = [modelport.load("repository/m", progress=False) for _ in range(2)]
workers = psutil.Process().children()
"""


def test_workers_are_killed_and_nothing_is_said(tmp_path: Path) -> None:
    add_model(tmp_path)
    (tmp_path / "modelport.toml").write_text(f'[runtimes.fake]\npython = "{sys.executable}"\n')
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
