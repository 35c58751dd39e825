"""The CPU cost of a request when requests differ: one form repeated, and 200 in random order, by kind and dialect.

    python -m benchmarks.form_overhead [--short] [--kind K ...] [--dialect D ...] [--old CHECKOUT] [--forms 200]

The servers and the load generator have a core each. All rows take turns, round by round, so that a machine that slows
down slows all of them. Each answer is checked before the measurement. benchmarks/forms.py says what differs.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import forms
from benchmarks.prepared import Generator, Prepared, generator, prepare
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import Server, gateway, reference
from gateway.config import home

_WARM_UP = 400  # requests, and as many again as there are forms
_LIMIT = 1.25


@dataclass
class Cell:
    """One server that answers the requests of one kind and dialect, with one form or many."""

    server: Server
    prepared: Prepared
    warm_up: int
    cpu_us: list[float] = field(default_factory=list)
    generator_us: list[float] = field(default_factory=list)

    def measure(self, load: Generator, seconds: float, in_flight: int) -> None:
        load.connect(self.prepared, in_flight)
        warm = load.run(self.warm_up)
        count = max(int(warm.count / warm.seconds * seconds), 100)
        before = self.server.cpu_seconds()
        run = load.run(count)
        self.cpu_us.append((self.server.cpu_seconds() - before) / count * 1e6)
        self.generator_us.append(run.cpu_seconds / count * 1e6)


@dataclass
class Row:
    """cells: by the server's name and the number of forms."""

    kind: str
    dialect: str
    cells: dict[tuple[str, int], Cell]


def rows(options: argparse.Namespace, folder: Path, stack: ExitStack) -> Iterator[Row]:
    """Start the servers, check their answers, and yield what is to be measured."""
    repository = folder / "models"
    names = forms.make_models(repository)
    servers = {"modelport": stack.enter_context(gateway(repository, models=names))}
    if options.old:
        servers["old"] = stack.enter_context(gateway(repository, models=names, checkout=Path(options.old)))
    if "plain" in options.kind:
        artifact = str(repository / "tiny" / "1" / "model.onnx")
        servers["sketch"] = stack.enter_context(reference("sketch", artifact, ports=("grpc", "port")))
    for kind in options.kind:
        if kind == "tritonclient" and not options.tritonclient.exists():
            print(f"tritonclient is skipped: {options.tritonclient} is missing, and --tritonclient names no other\n")
            continue
        for dialect in options.dialect:
            row = Row(kind, dialect, {})
            for count in (1, options.forms):
                every = forms.make_forms(repository, kind, dialect, count, options.tritonclient)
                for name, server in servers.items():
                    # The sketch serves one kind only, and how well an earlier checkout does with one form is not asked.
                    if (name == "sketch" and kind != "plain") or (name == "old" and count == 1):
                        continue
                    port = server.ports["grpc" if dialect == "grpc" else "port" if name == "sketch" else "http"]
                    there = [forms.at(port, form) for form in every]
                    forms.check(there)
                    loads = prepare([form.load for form in there], folder / f"{name}-{kind}-{dialect}-{count}")
                    row.cells[name, count] = Cell(server, loads, _WARM_UP + count)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="7 rounds of 0.15 s instead of 25 of 0.3 s")
    parser.add_argument("--kind", nargs="+", choices=forms.KINDS, default=forms.KINDS)
    parser.add_argument("--dialect", nargs="+", choices=forms.DIALECTS, default=forms.DIALECTS)
    parser.add_argument("--forms", type=int, default=200, help="how many forms differ")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--old", default="", metavar="CHECKOUT", help="also measure another checkout, with its .venv")
    parser.add_argument(
        "--tritonclient",
        type=Path,
        default=home() / "test-clients" / "tritonclient" / "bin" / "python",
        metavar="PYTHON",
        help="an interpreter with tritonclient; by default, that of tests/e2e/test_tritonclient.py",
    )
    options = parser.parse_args()
    rounds, seconds = (7, 0.15) if options.short else (25, 0.3)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        every = list(rows(options, Path(folder), stack))
        load = stack.enter_context(generator())
        for _ in range(rounds):
            for row in every:
                for cell in row.cells.values():
                    cell.measure(load, seconds, options.in_flight)
    _report(every, options, rounds, seconds)


def _report(every: list[Row], options: argparse.Namespace, rounds: int, seconds: float) -> None:
    print(f"{options.in_flight} in flight, one core for the servers, {rounds} rounds of {seconds:g} s")
    generated = [statistics.median(cell.generator_us) for row in every for cell in row.cells.values()]
    print(f"the load generator took {min(generated):.0f} to {max(generated):.0f} µs per request, on another core\n")
    lines = []
    for row in every:
        one, many = (row.cells["modelport", count].cpu_us for count in (1, options.forms))
        minima = min(many) / min(one)
        line = [
            row.kind,
            row.dialect,
            median_and_spread(one),
            median_and_spread(many),
            ratio(many, one),
            f"{minima:.2f}",
        ]
        line.append("met" if minima <= _LIMIT else "**not met**")
        for name in ("old", "sketch"):
            other = row.cells.get((name, options.forms))
            line.append(f"{min(many) / min(other.cpu_us):.2f}" if other else "")
        lines.append(line)
    many = f"{options.forms} forms"
    head = ["", "dialect", "1 form, CPU µs", many, "ratio", "ratio of minima", f"≤ {_LIMIT}"]
    print(table([*head, f"{many}, of old", "of the sketch"], lines))


if __name__ == "__main__":
    main()
