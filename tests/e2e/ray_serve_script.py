"""Ray Serve with a gateway on each of two nodes, over fake models (y = 2x), in Ray's environment.

Usage: ray_serve_script.py REPOSITORY PYTHON. `gated` answers while REPOSITORY/../gate exists, `stream` sends answer n
once REPOSITORY/../step.n exists. A failed assertion is a failure.
"""

import http.client
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
from ray import serve

from gateway.cluster.ray_serve import serve_app
from tests.support.ended_processes import wait_ended
from tests.support.ray_cluster import two_nodes

X = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
BODY = json.dumps({"inputs": [X | {"data": [1, 2, 3, 4]}]}).encode()


def request(port: int, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.msg, answer.read()
    connection.close()
    return found


def infer(port: int, prefix: str, model: str) -> Any:
    status, _, body = request(port, "POST", f"{prefix}/v2/models/{model}/infer", BODY)
    assert status == 200, body
    return json.loads(body)["outputs"][0]["data"]


def gateways() -> list[psutil.Process]:
    """The supervisors that replicas have started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "leashed.py" in " ".join(words[:3]) and "serve" in words and sys.argv[1] in words:
            found.append(process)
    return found


def port_of(gateway: psutil.Process) -> int:
    """The port of REST: the one that answers as the Open Inference Protocol says."""
    for connection in gateway.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            try:
                if b"extensions" in request(connection.laddr.port, "GET", "/v2")[2]:
                    return connection.laddr.port
            except http.client.HTTPException:
                continue
    raise AssertionError("the gateway has no REST port")


def until(condition: Any) -> None:
    """Each turn asks a process or a server."""
    while not condition():
        pass


def check_forwarding(port: int) -> None:
    direct = port_of(gateways()[0])
    for method, path, body, headers in (
        ("GET", "/v2/models/plain", None, {}),
        ("GET", "/v2/models/plain/stats?a=%20b&c", None, {}),
        ("HEAD", "/v2/health/ready", None, {}),
        ("GET", "/v2/models/no%2Fbody", None, {}),
        ("POST", "/v2/models/plain/infer", BODY, {"Content-Type": "application/json"}),
        ("POST", "/v2/models/plain/infer", b"{", {}),
        ("POST", "/v2/models/plain/infer", BODY, {"Accept-Encoding": "gzip"}),
        ("PUT", "/v2/models/plain/infer", BODY, {}),
    ):
        expected = request(direct, method, path, body, headers)
        found = request(port, method, "/models" + path, body, headers)
        assert found[0] == expected[0], (path, found, expected)
        if "stats" not in path:
            assert found[2] == expected[2], (path, found, expected)
        kept = {name.lower(): value for name, value in expected[1].items()} | {"date": ""}
        got = {name.lower(): value for name, value in found[1].items()} | {"date": ""}
        for name in kept.keys() - {"content-length", "connection", "keep-alive", "server"}:
            assert got.get(name) == kept[name] or "stats" in path, (path, name, got, kept)
    # Bytes after a head in JSON, 8 MB of them, which are sent in chunks without a length.
    rows = 500_000
    head = json.dumps(
        {
            "inputs": [X | {"shape": [rows, 4], "parameters": {"binary_data_size": rows * 16}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    one = bytes([0, 0, 128, 63])
    chunks = iter([head, *[one * 400_000] * 5])
    status, headers, body = request(
        port, "POST", "/models/v2/models/plain/infer", chunks, {"Inference-Header-Content-Length": str(len(head))}
    )
    assert status == 200, body[:1000]
    assert body[int(headers["Inference-Header-Content-Length"]) :] == bytes([0, 0, 0, 64]) * rows * 4


def check_streaming(port: int, step: Path) -> None:
    """The first answer arrives while the second cannot exist yet."""
    step.with_name("step.0").touch()  # the head comes with the first answer
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/models/v2/models/stream/generate_stream", json.dumps({"x": [1, 2, 3, 4]}))
    answer = connection.getresponse()
    for number in range(2):
        step.with_name(f"step.{number}").touch()
        while not (line := answer.readline()).startswith(b"data:"):
            assert line, "the stream has ended"
        assert json.loads(line[5:])["y"][0] == 2 + number, line
    answer.read()
    connection.close()


def check_accidents(port: int) -> None:
    """A gateway that is killed is replaced, and one whose replica is killed ends."""
    first = gateways()
    assert len(first) == 2, first
    os.kill(first[0].pid, signal.SIGKILL)
    until(lambda: len(set(gateways()) - set(first)) == 1)
    assert infer(port, "/models", "plain") == [2, 4, 6, 8]
    second = gateways()
    replica = second[0].parent()
    replica.send_signal(signal.SIGKILL)
    assert wait_ended(second[:1]) == []
    until(lambda: len(gateways()) == 2)
    assert infer(port, "/models", "plain") == [2, 4, 6, 8]


def check_scaling(port: int, gate: Path) -> None:
    """Requests that wait for a worker start a second gateway."""
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(infer(port, "/few", "gated"))) for _ in range(48)]
    gate.unlink()
    before = len(gateways())
    for thread in threads:
        thread.start()
    until(lambda: len(gateways()) > before)
    gate.touch()
    for thread in threads:
        thread.join()
    assert answers == [[2, 4, 6, 8]] * 48


def main() -> None:
    repository, python = sys.argv[1:3]
    folder = Path(repository).parent
    flags = ["--python", f"fake={python}"]
    options = {"ray_actor_options": {"num_cpus": 0.1}, "health_check_period_s": 1}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with two_nodes():
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        two = serve_app(repository, flags=flags, min_gateways=2, max_gateways=2, options=options)
        serve.run(two, name="models", route_prefix="/models")
        nodes = {each.parent().parent().pid for each in gateways()}
        assert len(nodes) == len(gateways()) == 2, "there is one gateway on each node"
        check_forwarding(port)
        check_streaming(port, folder / "step")
        check_accidents(port)
        serve.delete("models")
        until(lambda: not gateways())
        quick = {"upscale_delay_s": 0.1, "metrics_interval_s": 0.5, "look_back_period_s": 1}
        few = serve_app(repository, flags=flags, max_gateways=2, target_queued=2, autoscaling=quick, options=options)
        serve.run(few, name="few", route_prefix="/few")
        check_scaling(port, folder / "gate")
        left = gateways()
        serve.shutdown()
        assert wait_ended(left) == []
    print("all of it worked")


if __name__ == "__main__":
    main()
