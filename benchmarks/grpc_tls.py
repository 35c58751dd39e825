"""The cost of gRPC over TLS: each server of the gateway, nginx in front of one, and grpclib. CPU time of process trees.

    python -m benchmarks.grpc_tls [--short] [--nginx PROGRAM] [--grpclib PYTHON]

A tiny model (16 → 32 → 4, ONNX), one row per call, on connections that are kept, with a certificate on the curve P-256.
All servers are pinned to the first core, and h2load to the others; contenders take turns, round by round, and ratios
are those of neighbors in one round. grpclib, with an interpreter that has it, only echoes.
"""

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import h2load, models, requests
from benchmarks.h2load import Load
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import gateway, reference
from benchmarks.tls import Contender, certificate, nginx

ROW = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)
SECURE = "native, TLS"
# Calls in flight, and calls in a round.
LOADS = {"32 in flight": (32, 8000), "1 in flight": (1, 1500)}


def contenders(folder: Path, options: argparse.Namespace, stack: ExitStack) -> dict[str, Contender]:
    models.tiny_mlp(folder / "models" / "tiny" / "1" / "model.onnx")
    files = certificate(folder, "P-256")
    found: dict[str, Contender] = {}
    for kind in ("native", "guarded", "grpcio"):
        for secure in (False, True):
            if secure and kind == "guarded":  # with TLS, native is
                continue
            flags = ["--tls-cert", files[0], "--tls-key", files[1]] if secure else []
            server = stack.enter_context(gateway(folder / "models", "--grpc-server", kind, *flags, models=["tiny"]))
            found[kind + ", TLS" * secure] = Contender([server], _load(server.ports["grpc"], secure))
    if options.nginx:
        (native,) = found["native"].servers
        upstream = native.ports["grpc"]
        proxy, port = nginx(options.nginx, folder / "nginx", upstream, files, stack, grpc=True)
        found["nginx, TLS, and native"] = Contender([proxy, native], _load(port, True))
    if options.grpclib:
        echo = stack.enter_context(reference("grpclib_echo", *files, python=options.grpclib))
        found["grpclib echo, TLS"] = Contender([echo], _load(echo.ports["port"], True))
    return found


def _load(port: int, secure: bool) -> Load:
    load = requests.v2_grpc(port, "tiny", ROW)
    return Load(load.url.replace("http:", "https:") if secure else load.url, load.body, load.headers, grpc=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds instead of 15")
    parser.add_argument("--nginx", default=shutil.which("nginx") or "", metavar="PROGRAM")
    parser.add_argument("--grpclib", default="", metavar="PYTHON", help="an interpreter that has grpclib and uvloop")
    options = parser.parse_args()
    rounds = 5 if options.short else 15
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = contenders(Path(folder), options, stack)
        for _ in range(rounds + 1):  # the first round warms up
            for kind, (in_flight, count) in LOADS.items():
                for each in found.values():
                    each.measure(kind, lambda load, n=count, many=in_flight: h2load.run(load, n, many).count)
    for each in found.values():
        for values in each.cpu_us.values():
            del values[0]
    for kind in LOADS:
        print(f"\n{kind}, CPU µs per call, median ± half the range, and minimum, of {rounds} rounds\n")
        rows = []
        ours = found[SECURE].cpu_us[kind]
        for name, each in found.items():
            values = each.cpu_us[kind]
            against = [ratio(ours, values), f"{min(ours) / min(values):.2f}"] if name != SECURE else ["", ""]
            rows.append([name, median_and_spread(values), f"{min(values):.1f}", *against])
        print(table(["", "median", "minimum", f"{SECURE} / this", "of minima"], rows))


if __name__ == "__main__":
    main()
