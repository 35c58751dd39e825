"""The cost of TLS in the gateway, and of nginx in front of a gateway without TLS: CPU time of whole process trees.

    python -m benchmarks.tls [--short] [--nginx PROGRAM] [--in-flight 32]

A tiny model (16 → 32 → 4, ONNX), one row of v2 JSON per request, on connections that are kept and on a new connection
for each request, with a certificate on the curve P-256 and one of RSA with 2048 bits. Clients check no certificate and
resume no session. Both gateways and nginx are pinned to the first core, and the clients to the others; contenders take
turns, round by round, and ratios are those of neighbors in one round. nginx has one worker, keeps its connections to
the gateway, and writes no log of requests.
"""

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import h2load, models, requests
from benchmarks.h2load import Load
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, first_core, gateway, on_cores, other_cores, serving

ROW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)
KEYS = {"P-256": ("ec", "ec_paramgen_curve:P-256"), "RSA 2048": ("rsa", "rsa_keygen_bits:2048")}
# New connections per second: few enough for each contender to have one at a time.
PER_SECOND = 250
NGINX = """
daemon off;
worker_processes 1;
error_log stderr notice;
pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  upstream gateway {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} ssl{http2};
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    client_body_buffer_size 1m;
    location / {{ {location} }}
  }}
}}
"""
HTTP = 'proxy_pass http://gateway; proxy_http_version 1.1; proxy_set_header Connection "";'
GRPC = "grpc_pass grpc://gateway; client_max_body_size 0;"


class Contender:
    """Servers that answer together. load: without TLS, or with it if its URL says so."""

    def __init__(self, servers: list[Server], load: Load) -> None:
        self.servers, self.load = servers, load
        self.cpu_us: dict[str, list[float]] = {}

    def measure(self, kind: str, send: Callable[[Load], int]) -> None:
        """send: sends requests and returns their number."""
        before = sum(server.cpu_seconds() for server in self.servers)
        count = send(self.load)
        spent = sum(server.cpu_seconds() for server in self.servers) - before
        self.cpu_us.setdefault(kind, []).append(spent / count * 1e6)


def certificate(folder: Path, key: str) -> tuple[str, str]:
    """Return the paths of a certificate and its key."""
    algorithm, option = KEYS[key]
    cert, private = (str(folder / f"{algorithm}.{name}") for name in ("crt", "key"))
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", algorithm, "-pkeyopt", option, "-days", "2"]
    subprocess.run(
        [*command, "-subj", "/CN=localhost", "-out", cert, "-keyout", private], check=True, stderr=subprocess.DEVNULL
    )
    return cert, private


def nginx(
    program: str, folder: Path, upstream: int, files: tuple[str, str], stack: ExitStack, grpc: bool = False
) -> tuple[Server, int]:
    """Start nginx in front of this port. Return it and its own port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.mkdir()
    configuration = folder / "nginx.conf"
    addresses = {"folder": folder, "upstream": upstream, "port": port, "cert": files[0], "key": files[1]}
    protocol = {"location": GRPC, "http2": " http2"} if grpc else {"location": HTTP, "http2": ""}
    configuration.write_text(NGINX.format(**addresses, **protocol))
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(configuration)]
    return stack.enter_context(serving("nginx", command, {}, ["start worker process "], first_core())), port


def new_connections(count: int) -> Callable[[Load], int]:
    """Return a function that sends `count` requests, each on a connection of its own."""

    def send(load: Load) -> int:
        with tempfile.NamedTemporaryFile() as body:
            body.write(load.body)
            body.flush()
            command = ["h2load", "--h1", f"-n{count}", f"-c{count}", f"-r{PER_SECOND}", "-t1", f"-d{body.name}"]
            for name, value in load.headers.items():
                command += ["-H", f"{name}: {value}"]
            done = subprocess.run(
                [*command, load.url], capture_output=True, text=True, check=True, preexec_fn=on_cores(other_cores())
            )
        if f" {count} succeeded," not in done.stdout:
            raise RuntimeError(f"not all requests were answered with 200:\n{done.stdout}")
        return count

    return send


def kept_connections(in_flight: int, count: int) -> Callable[[Load], int]:
    return lambda load: h2load.run(load, count, in_flight).count


def contenders(folder: Path, program: str, stack: ExitStack) -> dict[str, Contender]:
    models.tiny_mlp(folder / "models" / "tiny" / "1" / "model.onnx")
    plain = stack.enter_context(gateway(folder / "models", models=["tiny"]))
    found = {"no TLS": Contender([plain], requests.v2_json(plain.ports["http"], "tiny", ROW))}
    for key in KEYS:
        files = certificate(folder, key)
        own = stack.enter_context(
            gateway(folder / "models", "--tls-cert", files[0], "--tls-key", files[1], models=["tiny"])
        )
        proxy, port = nginx(program, folder / key.replace(" ", ""), plain.ports["http"], files, stack)
        for name, servers, number in (("gateway", [own], own.ports["http"]), ("nginx", [proxy, plain], port)):
            load = requests.v2_json(number, "tiny", ROW)
            secure = Load(load.url.replace("http:", "https:"), load.body, load.headers)
            found[f"{key}: {name}"] = Contender(servers, secure)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--nginx", default=shutil.which("nginx") or "/usr/sbin/nginx", metavar="PROGRAM")
    parser.add_argument("--in-flight", type=int, default=32, help="requests in flight on kept connections")
    options = parser.parse_args()
    if not os.access(options.nginx, os.X_OK):
        parser.error("nginx is missing; on Debian, apt install nginx, or name the program with --nginx")
    rounds = 5 if options.short else 15
    kinds = {
        "kept": kept_connections(options.in_flight, 8000),
        "new": new_connections(500),
    }
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = contenders(Path(folder), options.nginx, stack)
        for _ in range(rounds + 1):  # the first round warms up
            for kind, send in kinds.items():
                for contender in found.values():
                    contender.measure(kind, send)
    for contender in found.values():
        for values in contender.cpu_us.values():
            del values[0]
    for kind in kinds:
        print(f"\n{kind} connections, CPU µs per request, median ± half the range, and minimum, of {rounds} rounds\n")
        rows = [[name, *_cells(contender.cpu_us[kind])] for name, contender in found.items()]
        print(table(["", "median", "minimum"], rows))
        for key in KEYS:
            ours, theirs = (found[f"{key}: {name}"].cpu_us[kind] for name in ("gateway", "nginx"))
            print(
                f"\n{key}: gateway / (nginx + gateway) = {ratio(ours, theirs)}, of minima {min(ours) / min(theirs):.2f}"
            )


def _cells(values: list[float]) -> list[str]:
    return [median_and_spread(values), f"{min(values):.1f}"]


if __name__ == "__main__":
    main()
