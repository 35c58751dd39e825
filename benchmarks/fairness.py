"""The latency of a client with one connection, alone and beside one with 1,000; and what quotas admit.

    python -m benchmarks.fairness [--connections 1000] [--rounds 3] [--requests 200] [--fronts 1 2] [--batch-ms 10]

Both are known by API keys. A fake model sleeps 10 ms per batch of at most 16 rows, so that it takes no core from the
gateway; each request has one row. The busy client fills every batch. Everything runs on loopback: the gateway on the
first core, both clients on the others. Finally, the busy client gets a quota, and the rate of answers with 200 is
compared with it.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import ClassVar

from benchmarks.h2load import Load
from benchmarks.load_generator import HttpConnection, drive
from benchmarks.prepared import Generator, GeneratorRun, Prepared, generator, http_head, prepare
from benchmarks.report import table
from benchmarks.servers import first_core, other_cores
from gateway.generated import open_inference_pb2 as pb
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_fake

ROWS = 16
KEYS = {"busy": "key-of-the-busy-client", "light": "key-of-the-light-client"}
# The busy client sends requests for this long before its process looks for the end, and pauses for the last answers.
_SLICE_S = 10.0
# The quota of the last part, and how long it is measured.
_RATE, _BURST, _QUOTA_S = 200, 50, 10.0


def identities(folder: Path, quota: str = "") -> Path:
    lines = []
    for name, key in KEYS.items():
        lines += [f"[identities.{name}]", f'key_sha256 = ["{hashlib.sha256(key.encode()).hexdigest()}"]']
        lines += ['roles = ["infer"]']
    if quota:
        lines += ["[identities.busy.quota]", quota]
    file = folder / "identities.toml"
    file.write_text("\n".join(lines))
    return file


@contextmanager
def started(folder: Path, fronts: int, file: Path) -> Iterator[Gateway]:
    """Start a gateway on the first core."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, first_core())
    try:
        server = start_gateway(folder / "models", folder, "--fronts", str(fronts), "--identities", str(file))
    finally:
        os.sched_setaffinity(0, own)
    try:
        server.wait_for(r"models: startup is complete: 1 of 1 ")
        for number in range(1, fronts + 1):
            server.wait_for(rf"front\.{number}: serving")
        yield server
    finally:
        server.close()


def load(server: Gateway, protocol: str, name: str) -> Load:
    headers = {"x-api-key": KEYS[name]}
    if protocol == "http":
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}
        url = f"http://127.0.0.1:{server.http.split(':')[1]}/v2/models/m/infer"
        return Load(url, json.dumps({"inputs": [tensor]}).encode(), {"content-type": "application/json", **headers})
    tensor_pb = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    message = pb.ModelInferRequest(model_name="m", inputs=[tensor_pb], raw_input_contents=[bytes(16)])
    url = f"http://127.0.0.1:{server.grpc.split(':')[1]}/inference.GRPCInferenceService/ModelInfer"
    return Load(url, message.SerializeToString(), headers, grpc=True)


@contextmanager
def busy(prepared: Prepared, connections: int, count: int) -> Iterator[list[GeneratorRun]]:
    """Keep so many connections busy, with `count` requests at a time. In the end, the list has what was measured."""
    runs: list[GeneratorRun] = []
    stop = threading.Event()
    with generator() as client:
        client.connect(prepared, connections, streams=1)
        client.run(connections)

        def go_on() -> None:
            while not stop.is_set():
                runs.append(client.run(count))

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield runs
        finally:
            stop.set()
            thread.join()


def compare(server: Gateway, protocol: str, folder: Path, light: Generator, options: argparse.Namespace) -> list[str]:
    """Return the cells of one row: the latencies in ms, and how they compare."""
    prepared = {name: prepare([load(server, protocol, name)], folder / f"{protocol}-{name}") for name in KEYS}
    light.connect(prepared["light"], 1)
    light.run(20)
    alone: list[GeneratorRun] = []
    beside: list[GeneratorRun] = []
    busy_runs: list[GeneratorRun] = []
    for _ in range(options.rounds):
        alone.append(light.run(options.requests))
        count = max(2 * options.connections, int(_SLICE_S * ROWS / options.batch_ms * 1000))
        with busy(prepared["busy"], options.connections, count) as runs:
            beside.append(light.run(options.requests))
        busy_runs += runs
    cells = []
    for percent in (50, 95):
        each = [[run.percentile(percent) * 1000 for run in runs] for runs in (alone, beside)]
        first, second = map(statistics.median, each)
        cells += [f"{first:.1f}", f"{second:.1f}", f"{second / first:.2f}"]
    return [*cells, f"{sum(run.count for run in busy_runs) / sum(run.seconds for run in busy_runs):.0f}"]


class Counting(HttpConnection):
    """Counts answers by status instead of failing if one is not 200. Each comes in one piece."""

    statuses: ClassVar[Counter[int]] = Counter()

    def receive(self) -> list[float]:
        data = self.socket.recv(1 << 16)
        self.statuses[int(data[9:12])] += 1
        return [self._started]


def quota(folder: Path, fronts: int, connections: int) -> list[str]:
    """Return the cells of one row: requests that were admitted, and the ratio to what the quota states."""
    limits = f"requests_per_second = {_RATE}\nburst = {_BURST}"
    file = identities(folder, limits)
    with started(folder, fronts, file) as ours:
        sent = load(ours, "http", "busy")
        clients = [
            Counting(int(ours.http.split(":")[1]), repeat((http_head(sent) + sent.body,))) for _ in range(connections)
        ]
        Counting.statuses.clear()
        began = time.perf_counter()
        while (seconds := time.perf_counter() - began) < _QUOTA_S:
            drive(clients, 1, 1000)
        admitted = Counting.statuses[200]
    stated = _RATE * seconds + _BURST
    refused = Counting.statuses[429]
    return [str(fronts), f"{admitted}", f"{refused}", f"{stated:.0f}", f"{admitted / stated:.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200, help="of the light client, in each round")
    parser.add_argument("--batch-ms", type=float, default=10, help="how long the model takes for a batch")
    parser.add_argument("--fronts", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, other_cores())
    head = ["fronts", "protocol", "p50 alone", "beside", "ratio", "p95 alone", "beside", "ratio", "busy, requests/s"]
    rows, admitted = [], []
    with tempfile.TemporaryDirectory() as name, generator() as light:
        folder = Path(name)
        add_fake(folder / "models", "m", toml=f"max_batch_size = {ROWS}\n", seconds_per_batch=options.batch_ms / 1000)
        for fronts in options.fronts:
            file = identities(folder)
            with started(folder, fronts, file) as server:
                for protocol in ("http", "grpc"):
                    rows.append([str(fronts), protocol, *compare(server, protocol, folder, light, options)])
        for fronts in options.fronts:
            admitted.append(quota(folder, fronts, 8))
    print(f"Latencies in ms, of one connection beside {options.connections}:\n")
    print(table(head, rows))
    print(f"\nA quota of {_RATE} requests per second with a burst of {_BURST}:\n")
    print(table(["fronts", "admitted", "refused", "quota", "ratio"], admitted))


if __name__ == "__main__":
    main()
