"""What a call of modelport.load's model costs, against the bare framework and against a gateway over HTTP.

    python -m benchmarks.embedded [--short]

One caller that waits for each answer. Microseconds per call, in rounds that take turns. The bare framework runs in a
process of its own, in the same environment; the request to the gateway is the Open Inference Protocol's binary form
over one connection that stays open.
"""

import argparse
import http.client
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import modelport
from benchmarks import models, requests
from benchmarks.environments import bare
from benchmarks.h2load import Load
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import gateway, other_cores


def microseconds(call: Callable[[], object], seconds: float) -> float:
    """Return the mean time of a call."""
    call()
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        call()
        count += 1
    return elapsed / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round")
    short = parser.parse_args().short
    rounds, seconds = (1, 0.3) if short else (7, 1.0)
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, make, shape in (
            ("tiny MLP, 64 bytes", models.tiny_mlp, (16,)),
            ("1 ms, 256 bytes", lambda path: models.convolutions(path, 24), (1, 8, 8)),
            ("ResNet-18, 588 KiB", models.residual_network, (3, 224, 224)),
        ):
            repository = Path(scratch, name.split()[0])
            artifact = repository / "m" / "1" / "model.onnx"
            artifact.parent.mkdir(parents=True)
            make(artifact)
            row = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
            found: dict[str, list[float]] = {"bare": [], "embedded": [], "http": []}
            with (
                bare("onnx", artifact, shape, other_cores()) as reference,
                modelport.load(str(artifact), threads=1, progress=False) as model,
                gateway(repository, models=["m"], cores=other_cores()) as server,
            ):
                load = requests.v2_binary(server.ports["http"], "m", row)
                requests.check(load, model.infer(x=row)["y"])
                connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"])

                def post(connection: http.client.HTTPConnection = connection, load: Load = load) -> bytes:
                    connection.request("POST", "/v2/models/m/infer", load.body, load.headers)
                    return connection.getresponse().read()

                for _ in range(rounds):
                    times = max(int(seconds / max(reference.seconds(1, 3)[1] / 3, 1e-6)), 1)
                    found["bare"].append(reference.seconds(1, times)[1] / times * 1e6)
                    found["embedded"].append(microseconds(lambda: model.infer(x=row), seconds))  # noqa: B023
                    found["http"].append(microseconds(post, seconds))
            lines.append(
                [
                    name,
                    *(median_and_spread(each, 0) for each in found.values()),
                    ratio(found["embedded"], found["bare"]),
                    ratio(found["embedded"], found["http"]),
                ]
            )
            print(*lines[-1], file=sys.stderr, flush=True)
    print(table(["model", "bare, µs", "embedded, µs", "HTTP, µs", "embedded / bare", "embedded / HTTP"], lines))


if __name__ == "__main__":
    main()
