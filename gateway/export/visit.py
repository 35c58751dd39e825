"""An export's page, run once in a headless Chromium where this machine has one: a proof in Python says little of it."""

import asyncio
import functools
import html
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from gateway.export.jobs import RouteFailed

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAX_S = 180
# Time that the page waits for nothing but its timers passes at once; what it loads and computes is waited for.
_OPTIONS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=60000", "--dump-dom",
)  # fmt: skip
_CHECK, _VERDICT = r'<p id="check"[^>]*>([^<]*)', r'<p id="check"[^>]*\bdata-verdict="(\w+)"'
_PROBLEM = r'<p id="problem"[^>]*>([^<]*)'
_NOT_RUN = "the page was not run here ({}): open it in a browser before you rely on it"


async def run_page(folder: Path, backend: str) -> str:
    """A sentence for the report: what came of it. Raises RouteFailed when the page does not run, or is wrong."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        return _NOT_RUN.format("there is no Chromium")
    with served(folder) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        shown = await _shown(browser, f"{address}?backend={backend}", home)
    state = re.search(r'<body[^>]*\bdata-state="(\w+)"', shown)
    check, verdict = (_found(pattern, shown) for pattern in (_CHECK, _VERDICT))
    if state and state[1] == "failed":
        raise RouteFailed(f"the page does not run in Chromium: {_found(_PROBLEM, shown)}")
    if verdict == "differs":
        raise RouteFailed(f"the page is wrong in Chromium: {check}")
    if not verdict:
        return _NOT_RUN.format("Chromium gave no answer")
    return f"the page was run in Chromium: {check}"


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return " ".join(html.unescape(match[1]).split()) if match else ""


async def _shown(browser: str, address: str, home: str) -> str:
    """The page's HTML when it has nothing more to do; "" where there was none in time."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # which Chromium refuses to root
    process = await asyncio.create_subprocess_exec(
        browser, *_OPTIONS, *sandbox, f"--user-data-dir={home}/profile", address,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", ""), "HOME": home}, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _MAX_S)
        return output.decode(errors="replace")
    except TimeoutError:
        return ""
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder by http, as `python3 -m http.server` there would. Gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=os.fspath(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
