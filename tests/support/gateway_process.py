"""A real gateway as a child process. Its log is what tests wait on; nothing sleeps."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from threading import Condition, Thread
from typing import Any, NamedTuple

from tests.support import ROOT

_WAIT_S = 120.0


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """http, grpc, metrics: addresses as HOST:PORT. tls: a client's context, if the gateway speaks TLS."""

    def __init__(self, process: "subprocess.Popen[str]", tls: ssl.SSLContext | None = None) -> None:
        self.process = process
        self.tls = tls
        self.log: list[str] = []
        self._changed = Condition()
        self._ended = False
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        found = self.wait_for(r"REST on https?://(\S+), gRPC on ([^\s,]+).*, metrics on https?://(\S+)/metrics")
        self.http, self.grpc, self.metrics = found.groups()

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._changed:
                    self.log.append(line.rstrip())
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, since: int = 0) -> "re.Match[str]":
        """The first log line, from line number `since` on, that matches; fails when the gateway ends without it."""
        expression, position = re.compile(pattern), since
        with self._changed:
            while True:
                for line in self.log[position:]:
                    if match := expression.search(line):
                        return match
                position = len(self.log)
                if self._ended or not self._changed.wait(_WAIT_S):
                    raise AssertionError(f"no log line matches {pattern!r}:\n" + "\n".join(self.log[-40:]))

    def wait_ready(self) -> "Gateway":
        """Until the server is ready: every model READY or UNAVAILABLE, and the fronts know."""
        self.wait_for(r'front\.\d+.*[ "]serving')
        self.wait_for(r'models.*[ "]startup is complete: ')
        while self.get("/v2/health/ready").status != 200:
            pass  # each turn is a request: the table is on its way to the front
        return self

    def wait_served(self, model: str) -> None:
        """Until a front serves the model: the log says READY before the table reaches the fronts."""
        while self.get(f"/v2/models/{model}/ready").status != 200:
            pass  # each turn is a request

    def get(self, path: str) -> Reply:
        return self.request("GET", path)

    def post(self, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, headers)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        request = urllib.request.Request(
            f"{self.scheme}://{self.http}{path}", data=body, method=method, headers={**(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=_WAIT_S, context=self.tls) as answer:
                return Reply(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read(), dict(error.headers))

    def infer(self, model: str, inputs: Mapping[str, Any], version: str = "") -> Any:
        """The outputs of POST /predict; fails on any error."""
        path = f"/predict/{model}" + (f"/versions/{version}" if version else "")
        reply = self.post(path, {"inputs": inputs})
        assert reply.status == 200, reply
        return reply.json()["outputs"]

    def index(self) -> dict[tuple[str, str], dict[str, str]]:
        entries = self.post("/v2/repository/index", {}).json()
        return {(entry["name"], entry["version"]): entry for entry in entries}

    def wait_in_flight(self, model: str, count: int = 1) -> None:
        """Wait until this many requests for version 1 are admitted and not answered. Each iteration is a scrape."""
        sample = f'modelport_requests_in_flight{{model="{model}",version="1"}} {count}.0'
        while sample not in self.get("/metrics").body.decode():
            pass

    def worker_pids(self, model: str) -> list[int]:
        """The processes that serve a model, as the metrics name them."""
        text = self.get("/metrics").body.decode()
        pattern = rf'modelport_process_open_fds{{pid="(\d+)",process="worker-{re.escape(model)}-'
        return [int(pid) for pid in re.findall(pattern, text)]

    def front_pids(self) -> list[int]:
        text = self.get("/metrics").body.decode()
        return [int(pid) for pid in re.findall(r'modelport_process_open_fds{pid="(\d+)",process="front-', text)]

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_WAIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(_WAIT_S)


def add_plugin(scratch: Path) -> Path:
    """Return a folder for PYTHONPATH, with which the fake runtime is installed like a third party's."""
    plugin = scratch / "plugin"
    info = plugin / "modelport_fake-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelport-fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelport.runtimes]\nfake = runtimes.fake\n")
    return plugin


def start_gateway(
    repository: Path | None, scratch: Path, *flags: str, tls: ssl.SSLContext | None = None, **environment: str
) -> Gateway:
    """Start a gateway on free loopback ports, with the fake runtime installed like a third party's.

    Without a repository, the flags must name the models. `tls` is a client's context, for flags that enable TLS.
    """
    plugin = add_plugin(scratch)
    # The working directory may contain a folder of that name: no process of the gateway must import from it.
    (scratch / "gateway.py").write_text("raise ImportError('a file of the working directory was imported')\n")
    ports = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "gateway",
            "serve",
            *([str(repository)] if repository else []),
            *ports,
            "--python",
            f"fake={sys.executable}",
            *flags,
        ],
        cwd=scratch,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{plugin}", "MODELPORT_POLL_S": "0.2", **environment},
    )
    try:
        return Gateway(process, tls)
    except AssertionError:
        process.kill()
        process.wait()
        raise
