"""What identities, quotas and the audit log cost a request: CPU time of all server processes, with and without them.

    python -m benchmarks.access [--rounds 15] [--seconds 1] [--in-flight 32]

A tiny model (ONNX) with one row per request. Three gateways on the first core take turns: one that knows nobody; one
with identities; and one with identities, all limits of a quota, which are far away, and an audit log. All get the same
requests, with an API key that the first ignores, so that the header itself is no part of the difference.
"""

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from benchmarks import models, requests
from benchmarks.h2load import Load
from benchmarks.overhead import ROW, Contender
from benchmarks.report import median_and_spread, table
from benchmarks.servers import Server, gateway

_KEY = "the-key-of-a-benchmark"
_IDENTITY = f'[identities.client]\nkey_sha256 = ["{sha256(_KEY.encode()).hexdigest()}"]\nroles = ["infer"]\n'
_QUOTA = """[identities.client.quota]
requests_per_second = 1e9
in_flight = 1000000
bytes_per_second = 1e12
compute_seconds_per_minute = 1e6
"""
_KINDS = ("open", "identities", "identities, quota, audit log")


def loads(server: Server) -> dict[str, Load]:
    http, grpc = server.ports["http"], server.ports["grpc"]
    found = {
        "v2 JSON": requests.v2_json(http, "tiny", ROW),
        "binary": requests.v2_binary(http, "tiny", ROW),
        "gRPC": requests.v2_grpc(grpc, "tiny", ROW),
    }
    return {name: replace(load, headers={**load.headers, "x-api-key": _KEY}) for name, load in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--in-flight", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        models.tiny_mlp(folder / "models" / "tiny" / "1" / "model.onnx")
        (folder / "known.toml").write_text(_IDENTITY)
        (folder / "limited.toml").write_text(_IDENTITY + _QUOTA)
        arguments = (
            (),
            ("--identities", str(folder / "known.toml")),
            ("--identities", str(folder / "limited.toml"), "--audit-log", str(folder / "audit.jsonl")),
        )
        servers = [stack.enter_context(gateway(folder / "models", *each, models=["tiny"])) for each in arguments]
        every = {
            (protocol, kind): Contender(server, load)
            for kind, server in zip(_KINDS, servers, strict=True)
            for protocol, load in loads(server).items()
        }
        for _ in range(options.rounds):
            for contender in every.values():
                contender.measure(options.seconds, options.in_flight)
    rows = []
    for (protocol, kind), contender in every.items():
        plain = every[protocol, _KINDS[0]]
        more = [ours - theirs for ours, theirs in zip(contender.cpu_us, plain.cpu_us, strict=True)]
        rows.append(
            [
                protocol,
                kind,
                median_and_spread(contender.cpu_us),
                f"{statistics.median(more):+.1f}",
                # Noise on a shared machine only adds time, so the minima are closest to the true costs.
                f"{min(contender.cpu_us) - min(plain.cpu_us):+.1f}",
            ]
        )
    print(
        f"{options.in_flight} in flight, one core for the servers, {options.rounds} rounds of {options.seconds:g} s\n"
    )
    print(table(["protocol", "server", "CPU µs per request", "more, median of rounds", "more, of the minima"], rows))


if __name__ == "__main__":
    main()
