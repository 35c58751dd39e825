"""Runs a few jobs at a time in threads that do not keep the process from ending."""

import queue
import threading
from collections.abc import Callable, Iterable


def run_all(jobs: Iterable[Callable[[], None]], threads: int) -> None:
    """Run the jobs. After the first failure no other job is started, and its exception is raised at the end.

    The executors of the standard library would make the process wait for a store that has stalled.
    """
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    count = 0
    for job in jobs:
        waiting.put(job)
        count += 1
    failures: list[BaseException] = []

    def work() -> None:
        while not failures:
            try:
                waiting.get_nowait()()
            except queue.Empty:
                return
            except BaseException as error:
                failures.append(error)

    running = [threading.Thread(target=work, name="download", daemon=True) for _ in range(min(threads, count))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
