"""`modelport score`: runs a model over files, with a progress bar, and prints what became of the rows."""

import signal
import sys
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateway.errors import ModelportError
from gateway.score.engine import OpenEngine
from gateway.score.errors import CannotScore
from gateway.score.run import ScoreRequest, Summary, score
from gateway.score.scorer import Scorer
from gateway.score.sources.source import Source

# The exit code if all went well, but some rows were bad.
BAD_ROWS = 3


def run_score(request: ScoreRequest, open_engine: OpenEngine | None = None) -> int:
    """Run the command. Return the exit code: 0, BAD_ROWS, 1 if it cannot go on, or 130 if it was stopped.

    open_engine  where batches are scored; None: on this machine
    """
    signal.signal(signal.SIGTERM, _stop)
    progress = _Progress(request.spec.location)
    try:
        with progress.bar:
            summary = score(request, progress, open_engine)
    except (CannotScore, ModelportError) as error:
        print(f"modelport: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"modelport: stopped after {progress.rows:,} rows; the same command continues there", file=sys.stderr)
        return 130
    _print(request, summary)
    return BAD_ROWS if summary.bad else 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Progress:
    def __init__(self, name: str) -> None:
        self._name = name
        self.rows = self._first = self._position = 0
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip

    def begin(self, source: Source, scorer: Scorer, done: int) -> None:
        for each in scorer.inputs:
            if each.columns != (each.target.name,):
                shown = ", ".join(each.columns[:8]) + (", …" if len(each.columns) > 8 else "")
                print(f"modelport: input '{each.target.name}' is made of {shown}, in this order", file=sys.stderr)
        if done:
            print(f"modelport: {done:,} rows are finished already; continuing there", file=sys.stderr)
        self.rows = self._first = done
        self._task = self.bar.add_task(self._name, total=source.size, rate="")

    def advance(self, rows: int, bad: int, position: int) -> None:
        self.rows = rows
        task = self.bar.tasks[self._task]
        rate = (rows - self._first) / task.elapsed if task.elapsed else 0
        text = f"{rows:,} rows, {rate:,.0f}/s" + (f", {bad:,} bad" if bad else "")
        self.bar.update(self._task, completed=position, rate=text)


def _print(request: ScoreRequest, summary: Summary) -> None:
    now = summary.read - summary.earlier
    rate = f" at {now / summary.seconds:,.0f} rows/s" if summary.seconds else ""
    print(f"read {summary.read:,} = scored {summary.scored:,} + bad {summary.bad:,}, in {summary.seconds:.1f} s{rate}")
    print(f"written to {request.output}" + (f"; the bad rows to {request.bad_file}" if summary.bad else ""))
