"""What a response cache saves, and what it costs requests that it cannot answer.

    python -m benchmarks.cache [--short]

Each model is served twice, with a cache and without. One request in flight, float32 tensors as bytes over REST:

numbers     16 numbers → 16, next to nothing to compute: what the cache itself costs, beside the compiled path
image       600 kB → 3 numbers, next to nothing: what hashing and comparing a large request costs
echo        4 MB → 4 MB, next to nothing: large answers too
network     600 kB → 1000 numbers by a ResNet-18: what a cache is for

off: without a cache. hit: the same request again. miss: always another one, in a cache that is full. Contenders take
turns, and each ratio is that of neighbors in one round.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto

from benchmarks import models
from benchmarks.pipelines import Client, Measured
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, first_core, gateway, other_cores

_ECHO = 1 << 20
_MODELS: dict[str, tuple[Callable[[Path], None], tuple[int, ...], int]] = {
    "numbers": (lambda path: models.identity(path, TensorProto.FLOAT, 16), (1, 16), 100),
    "image": (lambda path: models.channel_means(path, 224), (1, 3, 224, 224), 40),
    "echo": (lambda path: models.identity(path, TensorProto.FLOAT, _ECHO), (1, _ECHO), 10),
    "network": (models.residual_network, (1, 3, 224, 224), 5),
}


class Contender(Measured):
    """Seconds, and CPU seconds of client and gateway, for each request of a turn."""

    def __init__(self, server: Server, client: Client, model: str, array: np.ndarray, vary: bool) -> None:
        super().__init__(server, self.once)
        self._client, self._model, self._vary = client, model, vary
        self._array = array.copy()
        self._number = 0

    def once(self) -> bytes:
        if self._vary:
            self._number += 1
            self._array.flat[0] = self._number
        data = memoryview(self._array).cast("B")
        return bytes(self._client.infer(self._model, data, list(self._array.shape))[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds instead of 15")
    rounds = 5 if parser.parse_args().short else 15
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name, (save, _, _) in _MODELS.items():
            for kind, size in (("off", ""), ("on", 'response_cache = "64MiB"\n')):
                version = folder / f"{name}_{kind}" / "1"
                version.mkdir(parents=True)
                save(version / "model.onnx")
                (version.parent / "model.toml").write_text(size)
        served = [f"{name}_{kind}" for name in _MODELS for kind in ("off", "on")]
        with gateway(folder, models=served, cores=first_core() | other_cores()) as server:
            client = Client(server.ports["http"])
            for name, (_, shape, count) in _MODELS.items():
                rows += _measure(server, client, name, shape, count, rounds)
    print(f"{rounds} rounds, one request in flight; CPU time is that of client and gateway\n")
    print(table(["model", "contender", "ms", "/ off", "CPU ms", "/ off"], rows))


def _measure(
    server: Server, client: Client, name: str, shape: tuple[int, ...], count: int, rounds: int
) -> list[list[str]]:
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    contenders = {
        "off": Contender(server, client, f"{name}_off", array, vary=False),
        "hit": Contender(server, client, f"{name}_on", array, vary=False),
        "miss": Contender(server, client, f"{name}_on", array + 1, vary=True),
    }
    if len({contenders[each].once() for each in ("off", "hit", "hit")}) != 1:
        raise RuntimeError(f"the cache of {name} does not answer what the model does")
    for _ in range(rounds):
        for each in contenders.values():
            each.once()
            each.turn(count)
    off = contenders["off"]
    return [
        [
            name,
            kind,
            median_and_spread([value * 1e3 for value in each.elapsed], 2),
            ratio(each.elapsed, off.elapsed),
            median_and_spread([value * 1e3 for value in each.cpu], 2),
            ratio(each.cpu, off.cpu),
        ]
        for kind, each in contenders.items()
    ]


if __name__ == "__main__":
    main()
