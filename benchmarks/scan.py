"""The cost of scanning a repository, which happens every `poll_s`, however many models there are.

    python -m benchmarks.scan [--models 1000] [--rounds 20]

Models of one file (ONNX) and of a folder (SavedModel) alternate, each with one version and a model.toml. The scan is
the gateway's own, without its processes; the files are in the page cache. Loading a model checks the files of its
version once more.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import median_and_spread, table
from gateway.environments.runtime import discover
from gateway.repository.scan import scan
from gateway.repository.scan_cache import ScanCache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = _repository(Path(folder), arguments.models)
        runtimes = discover()
        configs = scan(Path(folder), runtimes)
        cache = ScanCache()
        assert scan(Path(folder), runtimes, cache=cache) == configs
        assert [config.problem for config in configs] == [""] * arguments.models
        rows = [
            ["the first scan", *_cost(lambda: scan(Path(folder), runtimes), arguments.rounds)],
            [
                "a scan, nothing has changed",
                *_cost(lambda: scan(Path(folder), runtimes, cache=cache), arguments.rounds),
            ],
            ["the files of one version", *_cost(configs[0].unchanged, arguments.rounds)],
        ]
    print(f"{arguments.models} models, {files} files\n\n{table(['', 'ms', 'ms of CPU'], rows)}")


def _repository(folder: Path, models: int) -> int:
    """Create the repository. Returns the number of its files."""
    for number in range(models):
        version = folder / f"m{number}" / "1"
        version.mkdir(parents=True)
        version.with_name("model.toml").write_text("max_batch_size = 8\n")
        if number % 2:
            (version / "saved_model.pb").write_bytes(b"graph")
            (version / "variables").mkdir()
            (version / "variables" / "variables.index").write_bytes(b"index")
            (version / "variables" / "variables.data-00000-of-00001").write_bytes(b"weights")
        else:
            (version / "model.onnx").write_bytes(b"graph")
    return sum(file.is_file() for file in folder.rglob("*"))


def _cost(work: Callable[[], object], rounds: int) -> list[str]:
    """Return the elapsed time and the CPU time, both in milliseconds."""
    wall, cpu = [], []
    for _ in range(rounds):
        began = time.perf_counter(), time.process_time()
        work()
        wall.append((time.perf_counter() - began[0]) * 1e3)
        cpu.append((time.process_time() - began[1]) * 1e3)
    return [median_and_spread(wall, 2), median_and_spread(cpu, 2)]


if __name__ == "__main__":
    main()
