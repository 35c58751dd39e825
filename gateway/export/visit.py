"""Opens an export's page once in a headless Chromium, if this machine has one: running the model in Python or node
does not verify the page."""

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
# Too short, and a good page on a busy machine counts as not run; too long, and a page that hangs delays the export.
_MAX_S = 180
# With a virtual time budget, pure timers expire immediately, while loading and computing are waited for.
_OPTIONS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=60000", "--dump-dom",
)  # fmt: skip
_CHECK, _VERDICT = r'<p id="check"[^>]*>([^<]*)', r'<p id="check"[^>]*\bdata-verdict="(\w+)"'
_PROBLEM = r'<p id="problem"[^>]*>([^<]*)'
_NOT_RUN = "the page was not run here ({}): open it in a browser before you rely on it"


async def run_page(folder: Path, backend: str) -> str:
    """Return a sentence for the report. Raises RouteFailed if the page does not run, or if its results differ."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        return _NOT_RUN.format("there is no Chromium")
    with served(folder) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        document = await _render(browser, f"{address}?backend={backend}", home)
    state = re.search(r'<body[^>]*\bdata-state="(\w+)"', document)
    check, verdict = (_first_match(pattern, document) for pattern in (_CHECK, _VERDICT))
    if state and state[1] == "failed":
        raise RouteFailed(f"the page does not run in Chromium: {_first_match(_PROBLEM, document)}")
    if verdict == "differs":
        raise RouteFailed(f"the page is wrong in Chromium: {check}")
    if not verdict:
        return _NOT_RUN.format("Chromium gave no answer")
    return f"the page was run in Chromium: {check}"


def _first_match(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return " ".join(html.unescape(match[1]).split()) if match else ""


async def _render(browser: str, address: str, home: str) -> str:
    """Return the page's HTML once it is idle; "" on timeout."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium does not sandbox root
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


class _SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # the name is the base class's
        """Log nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the folder over HTTP, as `python3 -m http.server` would. Yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_SilentHandler, directory=os.fspath(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
