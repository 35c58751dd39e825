"""Batches that are sent ahead, and what shows how far a program has got."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np


class Ahead:
    """Sends batches before the results of earlier ones are taken.

    submit  as Model.submit
    count   how many are in progress at a time
    """

    def __init__(
        self, submit: Callable[..., "Future[dict[str, np.ndarray]]"], outputs: Sequence[str], count: int
    ) -> None:
        self._submit, self._outputs, self._count = submit, outputs, count

    def run(self, batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the results in order. Those that nobody asks for any more are cancelled."""
        sent: deque[Future[dict[str, np.ndarray]]] = deque()
        try:
            for batch in batches:
                sent.append(self._submit(batch, outputs=self._outputs))
                if len(sent) >= self._count:
                    yield sent.popleft().result()
            while sent:
                yield sent.popleft().result()
        finally:
            for each in sent:
                each.cancel()


def print_progress(line: str) -> None:
    print(f"modelport: {line}", file=sys.stderr, flush=True)


def tracked(results: Iterator[Any], shown: bool, total: int | None, what: str) -> Iterator[Any]:
    """Yield the results, with a progress bar on standard error if it is to be shown."""
    if not shown:
        yield from results
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        for result in results:
            yield result
            bar.advance(task)
