"""Plots the cost of a request to a tiny model: CPU against requests in flight, and throughput against p99.

    python -m benchmarks.overhead_plot [--short] [--dialect JSON] [--svg docs/overhead.svg] [--old CHECKOUT] ...

The servers and the models are those of benchmarks/overhead.py. Each point is of its least disturbed round: the one
with the least CPU time on the left, and the one with the highest throughput on the right. It needs matplotlib.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import matplotlib

from benchmarks.overhead import AGAINST, Contender, add_servers, contenders
from benchmarks.report import table

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "overhead", "svg.fonttype": "none", "font.size": 9})

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: E402

DEPTHS = (1, 2, 4, 8, 16, 32, 64)
_OURS = {"JSON": "modelport v2 JSON", "binary": "modelport binary", "gRPC": "modelport gRPC"}

# By name, the contender as it was measured with each number in flight.
Measured = dict[str, dict[int, Contender]]


def measure(options: argparse.Namespace, rounds: int, seconds: float) -> Measured:
    ours = _OURS[options.dialect]
    names = {ours, *AGAINST[ours]} - {"FastAPI JSON, def"}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        every = contenders(Path(folder), stack, names.__contains__, options)
        found = {name: {depth: Contender(each.server, each.load) for depth in DEPTHS} for name, each in every.items()}
        for _ in range(rounds):
            for depth in DEPTHS:
                for points in found.values():
                    points[depth].measure(seconds, depth)
    return found


def plot(measured: Measured, dialect: str, file: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4))
    for name, points in measured.items():
        style = {"marker": "o", "markersize": 3, "label": name, "linewidth": 2 if name.startswith("modelport") else 1}
        left.plot(list(points), [min(each.cpu_us) for each in points.values()], **style)
        best = [max(zip(each.rates, each.p99_us, strict=True)) for each in points.values()]
        right.plot([rate for rate, _ in best], [p99 / 1000 for _, p99 in best], **style)
    left.set(xscale="log", yscale="log", xlabel="requests in flight", ylabel="CPU µs per request, all processes")
    left.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
    left.xaxis.set_minor_locator(NullLocator())
    right.set(xscale="log", yscale="log", xlabel=f"requests per second, {DEPTHS[0]} to {DEPTHS[-1]} in flight")
    right.set_ylabel("p99 in ms")
    for axis in (left.yaxis, right.xaxis, right.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    for axes in (left, right):
        axes.grid(color="#ddd")
    left.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{dialect}: a tiny model, one core for the servers")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="3 rounds of 0.2 s instead of 7 of 0.4 s")
    parser.add_argument("--dialect", choices=_OURS, default="JSON")
    parser.add_argument("--svg", type=Path, default=Path("docs/overhead.svg"))
    add_servers(parser)
    options = parser.parse_args()
    rounds, seconds = (3, 0.2) if options.short else (7, 0.4)
    measured = measure(options, rounds, seconds)
    plot(measured, options.dialect, options.svg)
    rows = []
    for name, points in measured.items():
        rows.append([name, *[f"{min(each.cpu_us):.0f}" for each in points.values()]])
    print(f"CPU µs per request, minima of {rounds} rounds of {seconds:g} s, by requests in flight\n")
    print(table(["", *map(str, DEPTHS)], rows))


if __name__ == "__main__":
    main()
