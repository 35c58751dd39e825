"""The real Prometheus and promtool, from Debian's package."""

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.environments import skip_or_fail


def needed(program: str) -> str:
    """Return the path of a program of the package."""
    found = shutil.which(program)
    if not found:
        skip_or_fail(f"no {program} on PATH: 'make apt' installs Debian's")
    assert found
    return found


class Prometheus:
    """A running server. address: as HOST:PORT"""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API, or None while it is starting."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return None
            with error:
                raise AssertionError(f"{parameters or path}: {error.read().decode()}") from None
        except OSError:
            return None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query."""
        found = self.get("query", query=expression)
        return list(found["result"]) if found else []


@contextmanager
def running_prometheus(config: str, folder: Path) -> Iterator[Prometheus]:
    """Start the server with the content of a configuration file."""
    file = folder / "prometheus.yml"
    file.write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [needed("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address={address}", "--enable-feature=exemplar-storage"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Prometheus(address)
    finally:
        process.terminate()
        process.wait(60)
