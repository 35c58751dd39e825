"""Measures an artifact in batches of several sizes with the code that serves it, without clients.

One process measures one number of threads. Every size runs in every round, in alternating order, so that a machine that
becomes slower or faster affects all sizes alike.
"""

import gc
import importlib
import json
import os
import threading
import time
from typing import Any, Dict, List, Sequence

import numpy as np

from runtimes import array_files, memory, offline, peak_memory
from runtimes.array_files import Arrays
from runtimes.contract import Model, Unsupported, first_line
from runtimes.control import Load
from runtimes.redaction import redacted
from runtimes.worker.batcher import Batching
from runtimes.worker.chunked_model import ChunkedModel, RowCountMismatch
from runtimes.worker.heap import return_free_memory
from runtimes.worker.reshape import Reshaped

# Runs before the first that counts. The first two or three of a shape may allocate or compile.
_WARM_UPS, _WARM_UP_S = 3, 2.0
# A size is measured in this many rounds, and in up to so many more until its median is stable.
_ROUNDS, _MORE_ROUNDS = 5, 10
_MIN_RUNS = 3
# More runs say nothing new about a median, and make the answer larger.
_MAX_RUNS_PER_ROUND = 500
# The standard error of a median that counts as stable, relative to the median.
_STABLE = 0.02
_POLL_S = 0.005


class Point:
    """The runs of one number of rows. failed: why there are none, in a sentence; "" if there are."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.durations: List[float] = []
        self.peak_bytes = 0
        self.failed = ""

    def is_stable(self) -> bool:
        """Return whether further runs would hardly change the median, judged by the distance of the quartiles."""
        low, middle, high = np.percentile(self.durations, [25, 50, 75])
        return bool(0.93 * (high - low) <= _STABLE * middle * len(self.durations) ** 0.5)


def profile(job: Dict[str, Any]) -> Dict[str, Any]:
    """Run a job and return its result. The keys of a job:

    load       the model, as in a LOAD frame
    signature  the name of the signature; "" for the default
    inputs     a file (npz) of inputs, whose rows are repeated to fill batches
    dim        the dimension that counts rows
    sizes      numbers of rows to measure, ascending; 0 stands for the inputs as they are
    seconds    how long each size is measured
    timeout_s  how long a run may take; the process ends if the first one of a size takes longer
    progress   the file that always has what was measured so far, in the form of the result
    start      a file: measuring begins once it exists. "" for at once
    trace      the number of rows of the inference whose operators are timed; None for none

    Result: `loaded` (seconds; bytes of memory then, and at the peak until then), `points` (records of `Point`), `nodes`
    and `operators` (see profiling.py), `notes` (sentences about what is missing), `running` (rows of the size that runs
    now, for the first time; None if none), and `ready` (whether it waits for `start`).
    """
    peak_memory.reset()
    began = time.perf_counter()
    model, name = offline.open_model(Load.from_json(job["load"]), job["signature"])
    seconds = time.perf_counter() - began
    loading_peak = peak_memory.peak()
    return_free_memory()
    loaded = {"seconds": seconds, "bytes": peak_memory.resident(), "peak_bytes": loading_peak}
    gc.collect()
    if hasattr(gc, "freeze"):  # Python 3.7; a worker does the same
        gc.freeze()
    sweep = _Sweep(model, name, array_files.read(job["inputs"]), job["dim"], loaded, job["progress"])
    sweep.warm_up(job["sizes"], job["timeout_s"])
    if job["start"]:
        sweep.report(ready=True)
        while not os.path.exists(job["start"]):
            time.sleep(_POLL_S)
    sweep.measure(job["seconds"], _ROUNDS if job["start"] else _ROUNDS + _MORE_ROUNDS)
    result = sweep.result()
    if job["trace"] is not None:
        result.update(_trace(model, name, sweep.batch(job["trace"])))
    return result


class _Sweep:
    def __init__(
        self, model: Model, signature: str, inputs: Arrays, dim: int, loaded: Dict[str, float], progress: str
    ) -> None:
        self._model = model
        self._signature = signature
        self._inputs = inputs
        self._dim = dim
        self._loaded = loaded
        self._progress = progress
        self._points: List[Point] = []

    def batch(self, rows: int) -> Arrays:
        """Return inputs of this many rows."""
        if not rows:
            return self._inputs
        return {
            name: np.take(array, np.arange(rows) % array.shape[self._dim], axis=self._dim)
            for name, array in self._inputs.items()
        }

    def warm_up(self, sizes: Sequence[int], timeout_s: float) -> None:
        """Run every size in ascending order, so that the peak of each shows how memory grows with the batch."""
        peak_memory.reset()
        for rows in sizes:
            self.report(running=rows)
            point = Point(rows)
            self._points.append(point)
            timer = threading.Timer(timeout_s, self._give_up, (point, timeout_s))
            timer.daemon = True
            timer.start()
            try:
                inputs, began = self.batch(rows), time.perf_counter()
                for _ in range(_WARM_UPS):
                    self._run(inputs, rows)
                    timer.cancel()
                    if time.perf_counter() - began > _WARM_UP_S:
                        break
            except Exception as error:  # noqa: BLE001 - a model may refuse inputs with any exception
                point.failed = _reason(error)
            timer.cancel()
            point.peak_bytes = peak_memory.peak()
        self.report()

    def _give_up(self, point: Point, timeout_s: float) -> None:
        """Report a size whose first run hangs, as a worker's would be, and end the process: nothing can stop a run."""
        point.failed = "a run takes longer than execution_timeout_s = %g" % timeout_s
        self.report()
        os._exit(1)

    def measure(self, seconds: float, rounds: int) -> None:
        """Measure each size for this long. Rounds beyond _ROUNDS are for sizes whose median is not stable yet."""
        for number in range(rounds):
            points = [point for point in self._points if not point.failed]
            for point in points if number % 2 else reversed(points):
                few = len(point.durations) < _MIN_RUNS or sum(point.durations) < seconds
                if few if number < _ROUNDS else not point.is_stable():
                    self._measure(point, seconds / _ROUNDS)
            self.report()

    def _measure(self, point: Point, seconds: float) -> None:
        inputs = self.batch(point.rows)
        try:
            self._run(inputs, point.rows)  # brings the caches back that another size has emptied
            ends = time.perf_counter() + seconds
            for _ in range(_MAX_RUNS_PER_ROUND):
                began = time.perf_counter()
                self._run(inputs, point.rows)
                ended = time.perf_counter()
                point.durations.append(ended - began)
                if ended >= ends:
                    return
        except Exception as error:  # noqa: BLE001 - as above
            point.failed = _reason(error)

    def _run(self, inputs: Arrays, rows: int) -> None:
        outputs = self._model.infer(inputs, (), self._signature)
        if rows:
            ChunkedModel(self._model, Batching(rows, dim=self._dim)).check_rows(outputs, rows)

    def result(self, **state: Any) -> Dict[str, Any]:
        points = [dict(vars(point)) for point in self._points]
        return dict({"loaded": self._loaded, "points": points, "running": None, "ready": False}, **state)

    def report(self, **state: Any) -> None:
        draft = self._progress + ".draft"
        with open(draft, "w") as file:
            json.dump(self.result(**state), file)
        os.replace(draft, self._progress)


def _reason(error: BaseException) -> str:
    text = redacted(first_line(error))
    if isinstance(error, RowCountMismatch):
        return text
    return ("out of memory: " if memory.is_exhausted(error) else "refused: ") + text


def _trace(model: Model, signature: str, inputs: Arrays) -> Dict[str, Any]:
    """Return the nodes of the graph and the times of operators, as far as the runtime has them (profiling.py)."""
    notes: List[str] = []

    def call(module: str, function: str, what: str, *arguments: Any) -> Any:
        name = "modelport_runtime." + module
        try:
            return getattr(importlib.import_module(name), function)(model, *arguments)
        except Unsupported as error:
            notes.append(str(error))
        except Exception as error:  # noqa: BLE001 - the measurements are worth having without
            absent = isinstance(error, ImportError) and error.name == name
            notes.append(
                "this runtime does not report " + what if absent else what + ": " + redacted(first_line(error))
            )
        return None

    if isinstance(model, Reshaped):
        model, inputs = model.inside(inputs, signature)
    operators = call("operators", "time_operators", "the times of its operators", inputs, signature)

    return {
        "nodes": call("graph", "read_graph", "the nodes of its graph", signature) or [],
        "operators": operators.to_json() if operators else None,
        "notes": notes,
    }
