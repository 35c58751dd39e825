"""What the gateway costs beside the model: requests a second and CPU per request, by protocol, side by side.

    python benchmarks/overhead.py [--short] [--clients N]

Starts a gateway over model_repo/ with the ONNX runtime only and asks digits_onnx for one row, from
one closed loop per client. The protocols take turns for several rounds, so that a machine that
slows down slows all of them; the median is told with its spread. CPU is that of the gateway's
process tree, without the clients.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).parent.parent
IMAGE = np.arange(64, dtype=np.float32) % 17


def json_request(path: str, body: bytes, header: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{header}content-length: {len(body)}\r\n\r\n".encode() + body


def requests() -> dict[str, bytes]:
    """Prepared bytes by protocol: the clients shall cost little."""
    nested = [IMAGE.tolist()]
    tensor = {"name": "image", "shape": [1, 64], "datatype": "FP32"}
    head = {"inputs": [{**tensor, "parameters": {"binary_data_size": IMAGE.nbytes}}]}
    packed = json.dumps({**head, "parameters": {"binary_data_output": True}}).encode()
    return {
        "predict JSON": json_request("/predict/digits_onnx", json.dumps({"inputs": nested}).encode()),
        "v2 JSON": json_request(
            "/v2/models/digits_onnx/infer", json.dumps({"inputs": [{**tensor, "data": nested}]}).encode()
        ),
        "v2 binary": json_request(
            "/v2/models/digits_onnx/infer",
            packed + IMAGE.tobytes(),
            f"inference-header-content-length: {len(packed)}\r\n",
        ),
    }


async def client(address: tuple[str, int], request: bytes, until: float, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    while (started := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        latencies.append(time.perf_counter() - started)
    writer.close()


def cpu_seconds(root: psutil.Process) -> float:
    times = [process.cpu_times() for process in [root, *root.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


async def measure(
    address: tuple[str, int], request: bytes, clients: int, seconds: float, tree: psutil.Process
) -> tuple[float, float, float, float]:
    """(requests a second, CPU µs a request, p50 ms, p99 ms)"""
    latencies: list[float] = []
    before, until = cpu_seconds(tree), time.perf_counter() + seconds
    await asyncio.gather(*[client(address, request, until, latencies) for _ in range(clients)])
    spent = cpu_seconds(tree) - before
    latencies.sort()
    count = len(latencies)
    return count / seconds, spent / count * 1e6, latencies[count // 2] * 1e3, latencies[count * 99 // 100] * 1e3


def report(name: str, rounds: list[tuple[float, float, float, float]]) -> str:
    columns = list(zip(*rounds, strict=True))
    told = [f"{statistics.median(column):9.1f} ±{(max(column) - min(column)) / 2:7.1f}" for column in columns[:2]]
    told += [f"{statistics.median(column):8.2f}" for column in columns[2:]]
    return f"{name:14}" + "  ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="3 rounds of 1 s instead of 7 of 5 s")
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    rounds, seconds = (3, 1.0) if options.short else (7, 5.0)
    ports = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", ""]
    command = [sys.executable, "-m", "gateway", "serve", str(ROOT / "model_repo"), "--only", "onnx", *ports]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as gateway:
        assert gateway.stderr is not None
        port, ready = 0, False
        for line in gateway.stderr:
            if found := re.search(r"REST on http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
            ready = ready or "digits_onnx version 1 is READY" in line
            if ready and "settled" in line:
                break
        tree, results = psutil.Process(gateway.pid), {name: [] for name in requests()}  # type: ignore[var-annotated]
        for _ in range(rounds):
            for name, request in requests().items():
                results[name].append(asyncio.run(measure(("127.0.0.1", port), request, options.clients, seconds, tree)))
        gateway.terminate()
    print(f"{options.clients} in flight, {rounds} rounds of {seconds:g} s")
    print(f"{'':14}{'requests/s':>18}  {'CPU µs/request':>18}  {'p50 ms':>8}  {'p99 ms':>8}")
    for name, each in results.items():
        print(report(name, each))


if __name__ == "__main__":
    main()
