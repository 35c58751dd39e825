"""What Ray Serve's hop costs: the same requests to a gateway, and to Ray Serve, which forwards to that gateway.

    python -m benchmarks.ray_serve [--rounds 5] [--requests 300]

Requests take turns between the two, for each number of clients. The model returns its input: 16 numbers, or a picture
of 600 kB. Latencies are medians over all requests of a round; each ratio is that of neighbors in one round.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.report import median_and_spread, ratio, table

_SIZES = {"16 numbers": 16, "600 kB": 150_528}


class _Client:
    def __init__(self, port: int, prefix: str, size: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        tensor = {"name": "x", "shape": [1, size], "datatype": "FP32", "parameters": {"binary_data_size": size * 4}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        self._path, self._body = f"{prefix}/v2/models/m{size}/infer", head + bytes(size * 4)
        self._headers = {"Inference-Header-Content-Length": str(len(head))}

    def run(self, count: int) -> list[float]:
        """Return the milliseconds of each request."""
        found = []
        for _ in range(count):
            since = time.perf_counter()
            self._connection.request("POST", self._path, self._body, self._headers)
            answer = self._connection.getresponse()
            data = answer.read()
            assert answer.status == 200, data
            found.append((time.perf_counter() - since) * 1e3)
        return found


def _round(port: int, prefix: str, size: int, clients: int, requests: int) -> tuple[float, float]:
    """Return the median latency in milliseconds, and requests per second."""
    made = [_Client(port, prefix, size) for _ in range(clients)]
    since = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        runs = list(pool.map(lambda client: client.run(requests // clients), made))
    elapsed = time.perf_counter() - since
    return statistics.median(each for run in runs for each in run), sum(map(len, runs)) / elapsed


def _measure(folder: Path, rounds: int, requests: int) -> None:
    import logging

    import psutil
    import ray
    from ray import serve

    from modelport.ray import serve_app

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False, logging_level=logging.ERROR)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(serve_app(str(folder), flags=["--only", "onnx"]), route_prefix="/ray")
    direct = _rest_port(psutil.process_iter(["cmdline"]), str(folder))
    rows = []
    for name, size in _SIZES.items():
        for clients in (1, 8):
            ways = {"direct": (direct, ""), "ray": (port, "/ray")}
            for way in ways.values():
                _round(*way, size, clients, requests)
            found = {way: [] for way in ways}
            for _ in range(rounds):
                for way, where in ways.items():
                    found[way].append(_round(*where, size, clients, requests))
            latency = {way: [each[0] for each in values] for way, values in found.items()}
            rate = {way: [each[1] for each in values] for way, values in found.items()}
            rows.append(
                [name, str(clients), median_and_spread(latency["direct"], 2), median_and_spread(latency["ray"], 2),
                 ratio(latency["ray"], latency["direct"]), ratio(rate["ray"], rate["direct"])]
            )  # fmt: skip
    head = ["input", "clients", "gateway, ms", "Ray Serve, ms", "latency, ratio", "requests per second, ratio"]
    print(table(head, rows))
    serve.shutdown()
    ray.shutdown()


def _rest_port(processes: Iterable[Any], folder: str) -> int:
    for process in processes:
        words = process.info["cmdline"] or []
        if "serve" in words and folder in words:
            for each in process.net_connections("tcp"):
                if each.status == "LISTEN":
                    connection = http.client.HTTPConnection("127.0.0.1", each.laddr.port)
                    try:
                        connection.request("GET", "/v2")
                        if b"extensions" in connection.getresponse().read():
                            return int(each.laddr.port)
                    except http.client.HTTPException:
                        continue
    raise RuntimeError("the gateway has no REST port")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--inside", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        _measure(options.inside, options.rounds, options.requests)
        return
    from onnx import TensorProto

    from benchmarks import models
    from tests.support.client_environments import engines_python

    with tempfile.TemporaryDirectory() as text:
        for size in _SIZES.values():
            folder = Path(text) / f"m{size}" / "1"
            folder.mkdir(parents=True)
            models.identity(folder / "model.onnx", TensorProto.FLOAT, size)
        command = [str(engines_python()), "-m", "benchmarks.ray_serve", "--inside", text]
        command += ["--rounds", str(options.rounds), "--requests", str(options.requests)]
        sys.exit(subprocess.run(command, check=False, env=os.environ).returncode)


if __name__ == "__main__":
    main()
