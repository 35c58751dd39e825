"""What an export was, how it was made, and how far it is from its original: export.json, and a table for people."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gateway.export.proof import OutputDifference, within


@dataclass(frozen=True)
class Attempt:
    """One route that was tried.

    problem   why it is not the one; "" for the one that is
    compared  whether that is a difference, seen in what came out
    """

    route: str
    about: str
    problem: str
    compared: bool = False


@dataclass(frozen=True)
class Run:
    """The export in one of its runners, beside the original.

    seconds  the median of a batch of one
    cases    on how many inputs; fewer than the original's where the export's datatypes cannot hold some
    """

    runner: str
    differences: Sequence[OutputDifference]
    seconds: float | None
    problem: str = ""
    cases: int = 0


@dataclass(frozen=True)
class Side:
    """The original, or the export. path: within the repository, or within the export's folder."""

    path: str
    format: str
    runner: str
    bytes: int
    sha256: str
    seconds: float | None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All of export.json.

    inputs, outputs  as the export has them, in order: name, datatype, shape (-1: any size)
    fixed            inputs whose open sizes the export fixes: at which, and who said so
    cases            on how many inputs both were run; origin: where these are from
    notes            what is not as in the served model, in sentences
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
        """The table for people, as README has it and the terminal shows it."""
        console = Console(width=width, highlight=False, markup=False, color_system=None, force_terminal=False)
        with console.capture() as capture:
            for line in self._head():
                console.print(line)
            console.print(differences_table(self.runs, self.tolerance))
            for note in self.notes:
                console.print(f"note: {note}")
        return capture.get()

    def _head(self) -> list[str]:
        before, after = self.original, self.exported
        what = self.target if self.target == after.format else f"{self.target} ({after.format})"
        lines = [
            ", ".join([f"{self.model} version {self.version}: {before.format} → {what}", self.precision, *self.fixed]),
            f"by     {self.attempts[-1].route}",
            f"size   {size(before.bytes)} → {size(after.bytes)}",
            f"time   {milliseconds(before.seconds)} → {milliseconds(after.seconds)} for a batch of one",
            f"proof  the same on {self.cases} inputs ({self.origin})",
            f"       within {self.tolerance:g} of each output's largest value",
        ]
        lines += [f"tried  {each.route}: {each.problem}" for each in self.attempts if each.problem]
        return lines


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
            verdict = each.problem or each.loss or ("ok" if within(each, tolerance) else "differs")
            far, part = f"{each.absolute:.2e}", f"{each.relative:.2e}"
            table.add_row(run.runner, time, each.name, far, part, top1, " ".join([each.case, each.where]), verdict)
    return table


def size_and_digest(paths: Sequence[Path]) -> tuple[int, str]:
    """Bytes in all, and SHA-256: of one file's content, or of the names, sizes and contents of several."""
    if len(paths) == 1 and paths[0].is_file():
        return paths[0].stat().st_size, _digested(hashlib.sha256(), paths[0]).hexdigest()
    files = [(path.parent, file) for path in paths for file in sorted([path, *path.rglob("*")]) if file.is_file()]
    digest, total = hashlib.sha256(), 0
    for folder, file in files:
        length = file.stat().st_size
        total += length
        digest.update(f"{file.relative_to(folder).as_posix()}\0{length}\0".encode())
        _digested(digest, file)
    return total, digest.hexdigest()


def _digested(digest: "hashlib._Hash", file: Path) -> "hashlib._Hash":
    with file.open("rb") as content:
        while block := content.read(1 << 20):  # weights may be larger than memory
            digest.update(block)
    return digest


def size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def milliseconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"
