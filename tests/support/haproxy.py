"""A real HAProxy, from Debian's package: the service of Kubernetes, and an ingress, in front of two pods."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.prometheus import needed

_WAIT_S = 30.0
# tcp: as kube-proxy does, a connection stays with its pod. http: as an ingress does, each request is passed on.
_FRONTENDS = {
    "http-tcp": ("tcp", ""),
    "grpc-tcp": ("tcp", ""),
    "http-http": ("http", ""),
    "grpc-http": ("http", "proto h2"),
}


class Haproxy:
    """ports: http-tcp, grpc-tcp, http-http, grpc-http → where clients connect."""

    def __init__(self, ports: dict[str, int], control: Path) -> None:
        self.ports = ports
        self._control = control

    def set_state(self, server: str, state: str) -> None:
        """ready: gets new connections, or requests; maint: gets none, and keeps the connections that it has (tcp)."""
        for frontend in self.ports:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_WAIT_S)
                connection.connect(str(self._control))
                connection.sendall(f"set server {frontend}/{server} state {state}\n".encode())
                answer = connection.recv(1 << 12)
                assert not answer.strip(), answer


@contextmanager
def running_haproxy(servers: dict[str, dict[str, int]], ports: list[int], folder: Path) -> Iterator[Haproxy]:
    """Start it, with no server in use. servers: name → ports `http` and `grpc`. ports: four free ones."""
    control, config = folder / "haproxy.sock", folder / "haproxy.cfg"
    lines = [f"global\n stats socket {control} level admin\ndefaults\n timeout connect 5s\n timeout client 60s"]
    lines.append(" timeout server 60s\n retries 0")
    listening = dict(zip(_FRONTENDS, ports, strict=True))
    for name, (mode, extra) in _FRONTENDS.items():
        protocol = name.partition("-")[0]
        lines.append(f"listen {name}\n mode {mode}\n bind 127.0.0.1:{listening[name]} {extra}")
        for server, theirs in servers.items():
            lines.append(f" server {server} 127.0.0.1:{theirs[protocol]} disabled {extra}")
    config.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen([needed("haproxy"), "-f", str(config)], stderr=subprocess.PIPE, text=True)
    try:
        while not control.exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield Haproxy(listening, control)
    finally:
        process.kill()
        process.communicate(timeout=_WAIT_S)
