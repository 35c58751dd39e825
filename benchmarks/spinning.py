"""What the threads of an ONNX model cost while they wait: CPU time per run if they spin, and if they sleep.

    python -m benchmarks.spinning [--rounds 5]

Two models with two threads and a pause of 4 ms between two runs, in ONNX Runtime without a server
(references/waiting_threads.py). The modes take turns; figures are medians of the rounds. It needs two cores.
"""

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks import models
from benchmarks.environments import python_of
from benchmarks.report import table
from benchmarks.servers import ROOT

_SIDE = 224
_MODES = {"spin": "spin, as by default", "stop": "spin only during a run", "sleep": "sleep"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    python = python_of("onnx")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        means, network = Path(folder, "means.onnx"), Path(folder, "network.onnx")
        models.channel_means(means, _SIDE)
        models.residual_network(network, 40)
        for name, path, runs in (("means of an image", means, 200), ("ResNet-18, width 40", network, 60)):
            measured: dict[str, list[tuple[float, float]]] = {mode: [] for mode in _MODES}
            for _ in range(options.rounds):
                for mode, results in measured.items():
                    command = [str(python), "-m", "benchmarks.references.waiting_threads"]
                    command += [str(path), str(_SIDE), mode, str(runs)]
                    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
                    elapsed, cpu = map(float, printed.split())
                    results.append((elapsed, cpu))
            for mode, results in measured.items():
                elapsed, cpu = (statistics.median(column) * 1e3 for column in zip(*results, strict=True))
                rows.append([name, _MODES[mode], f"{elapsed:.3f}", f"{cpu:.3f}"])
    print(table(["model", "threads", "a run, ms", "CPU ms per run"], rows))


if __name__ == "__main__":
    main()
