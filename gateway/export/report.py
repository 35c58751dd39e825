"""The report of an export: what it is, how it was made, and how much it differs; as export.json and as a table."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gateway.export.comparison import OutputDifference, within


@dataclass(frozen=True)
class Attempt:
    """One route that was tried.

    problem   why it failed; "" for the one that succeeded
    compared  whether it failed because its results differ
    """

    route: str
    about: str
    problem: str
    compared: bool = False


@dataclass(frozen=True)
class Run:
    """The comparison of the export, in one of its runners, with the original.

    seconds  the median time of a batch of one
    cases    the number of inputs compared; fewer than the original's if the export's datatypes cannot hold some
    """

    runner: str
    differences: Sequence[OutputDifference]
    seconds: float | None
    problem: str = ""
    cases: int = 0


@dataclass(frozen=True)
class Side:
    """The original or the export. path: the name of the original's artifact, or relative to the export's folder."""

    path: str
    format: str
    runner: str
    bytes: int
    sha256: str
    seconds: float | None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The content of export.json.

    inputs, outputs  of the export, in order: name, datatype, shape (-1: any size)
    fixed            a text for each input whose dynamic sizes the export fixes: which sizes, and their origin
    cases            the number of inputs on which both were run; origin: of these inputs
    notes            how the export deviates from the served model, in sentences
    """

    model: str
    version: str
    target: str
    precision: str
    tolerance: float
    original: Side
    exported: Side
    inputs: Sequence[Sequence[Any]]
    outputs: Sequence[Sequence[Any]]
    cases: int
    origin: str
    runs: Sequence[Run]
    attempts: Sequence[Attempt]
    notes: Sequence[str]
    tools: Mapping[str, Mapping[str, str]]
    modelport: str
    created: str
    fixed: Sequence[str] = ()

    def json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def text(self, width: int = 120) -> str:
        """Return the report for people, as in the README and on the terminal."""
        return as_text(self._head(), self.runs, self.tolerance, self.notes, width)

    def _head(self) -> list[str]:
        before, after = self.original, self.exported
        target = self.target if self.target == after.format else f"{self.target} ({after.format})"
        lines = [
            ", ".join(
                [f"{self.model} version {self.version}: {before.format} → {target}", self.precision, *self.fixed]
            ),
            f"by     {self.attempts[-1].route}",
            f"size   {size(before.bytes)} → {size(after.bytes)}",
            f"time   {milliseconds(before.seconds)} → {milliseconds(after.seconds)} for a batch of one",
            f"check  matches the original on {self.cases} inputs ({self.origin})",
            f"       within {self.tolerance:g} of each output's largest value",
        ]
        lines += [f"tried  {each.route}: {each.problem}" for each in self.attempts if each.problem]
        return lines


def as_text(head: Sequence[str], runs: Sequence[Run], tolerance: float, notes: Sequence[str], width: int) -> str:
    """Return a report for people: lines, the differences, and notes."""
    console = Console(width=width, highlight=False, markup=False, color_system=None, force_terminal=False)
    with console.capture() as capture:
        for line in head:
            console.print(line)
        console.print(differences_table(runs, tolerance))
        for note in notes:
            console.print(f"note: {note}")
    return capture.get()


def differences_table(runs: Sequence[Run], tolerance: float) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("RUNNER", "TIME", "OUTPUT", "MAX ABS", "MAX REL", "TOP-1", "WORST INPUT", ""):
        table.add_column(column)
    for run in runs:
        if run.problem:
            table.add_row(run.runner, "", "", "", "", "", "", run.problem)
        time = milliseconds(run.seconds)
        for each in run.differences:
            top1 = "" if each.top1 is None else f"{each.top1:.4f}"
            from_large = f"differs from integers of about 2^{each.large} on" if each.large else ""
            verdict = each.problem or each.loss or from_large or ("ok" if within(each, tolerance) else "differs")
            absolute, relative = f"{each.absolute:.2e}", f"{each.relative:.2e}"
            worst = f"{each.case} {each.where}"
            table.add_row(run.runner, time, each.name, absolute, relative, top1, worst, verdict)
    return table


def size_and_digest(paths: Sequence[Path]) -> tuple[int, str]:
    """Return the total size in bytes and a SHA-256: of one file's content, or of the names, sizes and contents."""
    if len(paths) == 1 and paths[0].is_file():
        return paths[0].stat().st_size, _update(hashlib.sha256(), paths[0]).hexdigest()
    files = [(path.parent, file) for path in paths for file in sorted([path, *path.rglob("*")]) if file.is_file()]
    digest, total = hashlib.sha256(), 0
    for folder, file in files:
        length = file.stat().st_size
        total += length
        digest.update(f"{file.relative_to(folder).as_posix()}\0{length}\0".encode())
        _update(digest, file)
    return total, digest.hexdigest()


def _update(digest: "hashlib._Hash", file: Path) -> "hashlib._Hash":
    with file.open("rb") as content:
        while block := content.read(1 << 20):  # weights may be larger than memory
            digest.update(block)
    return digest


def size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def milliseconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
