"""A runtime without a framework, for tests of the worker, the supervisor and the contract.

The artifact is a JSON object. Every output is twice the input at the same position (BYTES: the string repeated), so a
correct answer is easy to recognize. All keys are optional:

key               value                            effect
inputs, outputs   [{"name", "datatype", "shape"}]  default: x and y, FP32 [-1, 4]. "outputs": null declares none
refused           {name: reason}                   these outputs exist but cannot be served
accepts           [datatype]                       inputs of others are invalid, though they are not declared
load_seconds      number                           duration of load
load_error        text                             load raises LoadError with this text
load_crash        true                             the process exits during load
allocate_mb       number                           allocates this much memory until the process exits
prints            text                             printed during load
seconds_per_batch number                           duration of each infer
waits_for         path                             infer returns once this file exists
seconds_per_row   number                           additional duration per row of the first input
memory_rows       number                           MemoryError if the first input has more rows than this
pipelined         true                             `start` and `finish` are supported; the number of batches in
                                                   progress at its start is added to each answer
not_batchable     true                             the mean of all elements is added, so rows influence each other
stateful          true                             the number of earlier calls is added
answers           number, or "rows"                a decoupled model with this many answers to each request, or one per
                                                   row; the number of earlier answers is added to each
effects_at        number                           the answer before which an element has its effect; default: 0
answer_waits_for  path                             answer n is computed once the file PATH.n exists
counts_hits       true                             outputs have one row per positive element, not per row
tries             {number: [act, argument, …]}     an element that equals a number has the model do this, as a hostile
                                                   one would: connect HOST PORT, fork, run PROGRAM, read PATH,
                                                   write PATH, chmod PATH, signal PID, python CODE; or
                                                   allocate MEGABYTES, and compute forever if that
                                                   succeeds
inert             true                             no element has an effect

Otherwise, an element of a numeric input that equals one of these has this effect:

400  InvalidInput       500  RuntimeError       507  MemoryError       501  Unsupported
666  the process is killed by SIGKILL           777  infer never returns
"""

import json
import os
import signal
import socket
import time
from typing import Any, Callable, Dict, Iterator, Sequence, Tuple

import numpy as np

from runtimes.checks import check_input, declared_inputs, declared_outputs, wanted_outputs
from runtimes.contract import (
    DATATYPES,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    Signature,
    TensorSpec,
    Unsupported,
    datatype_of,
)


def load(options: LoadOptions) -> Model:
    try:
        with open(options.artifact, encoding="utf-8") as file:
            described = json.load(file)
        if not isinstance(described, dict):
            raise ValueError
    except (OSError, ValueError):
        raise LoadError("this is not a fake model: it must be a JSON object") from None
    if "prints" in described:
        print(described["prints"])
    time.sleep(described.get("load_seconds", 0))
    if described.get("load_crash"):
        os._exit(1)
    if "load_error" in described:
        raise LoadError(described["load_error"])
    return FakeModel(described, options)


class FakeModel(Model):
    def __init__(self, described: Dict[str, Any], options: LoadOptions) -> None:
        self._described = described
        self._ballast = b"x" * int(described.get("allocate_mb", 0) * 1e6)
        self._calls = 0
        self._in_progress = 0
        self.pipelined = bool(described.get("pipelined"))
        self.decoupled = "answers" in described
        inputs = _specs(described.get("inputs", [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]))
        outputs = described.get("outputs", [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}])
        self._names = [item["name"] for item in outputs or [{"name": "y"}]]
        self._signature = Signature(
            declared_inputs(options.inputs, inputs),
            options.outputs if outputs is None else declared_outputs(options.outputs, _specs(outputs)),
            described.get("refused", {}),
        )
        self.signatures = {"default": self._signature}

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        requested = wanted_outputs(outputs, self._names)
        arrays = [check_input(spec, inputs) for spec in self._signature.inputs]
        for array in arrays:
            if datatype_of(array.dtype) not in self._described.get("accepts", DATATYPES):
                raise InvalidInput("an input is %s" % datatype_of(array.dtype))
            if not self._described.get("inert"):
                _apply_effects(array)
            for number, act in self._described.get("tries", {}).items():
                if array.dtype.kind == "f" and (array == float(number)).any():
                    _ACTS[act[0]](*act[1:])
        rows: int = arrays[0].shape[0] if arrays and arrays[0].ndim else 1
        if rows > self._described.get("memory_rows", rows):
            raise MemoryError("%d rows are too many" % rows)
        while not os.path.exists(self._described.get("waits_for", os.curdir)):
            time.sleep(0.01)
        time.sleep(self._described.get("seconds_per_batch", 0) + self._described.get("seconds_per_row", 0) * rows)
        results = {}
        for position, name in enumerate(self._names):
            if name in requested:
                results[name] = self._double(arrays[position % len(arrays)])
        self._calls += 1
        return results

    def stream(
        self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str
    ) -> Iterator[Dict[str, np.ndarray]]:
        requested = wanted_outputs(outputs, self._names)
        arrays = [check_input(spec, inputs) for spec in self._signature.inputs]
        count, gate = self._described["answers"], self._described.get("answer_waits_for")
        if count == "rows":
            count = len(arrays[0])
        try:
            for number in range(count + 1):
                if number == self._described.get("effects_at", 0):
                    for array in arrays:
                        _apply_effects(array)
                if number == count:
                    return
                while gate and not os.path.exists("%s.%d" % (gate, number)):
                    time.sleep(0.01)
                answers = [self._double(array) for array in arrays]
                yield {
                    name: answers[position % len(answers)] + np.asarray(number, answers[position % len(answers)].dtype)
                    for position, name in enumerate(self._names)
                    if name in requested
                }
        except GeneratorExit:
            print("the request was given up after %d answers" % (number + 1))
            raise

    def start(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Any:
        self._in_progress += 1
        return self._in_progress - 1, inputs, outputs, signature

    def finish(self, handle: Any) -> Dict[str, np.ndarray]:
        self._in_progress -= 1
        in_progress, inputs, outputs, signature = handle
        answer = self.infer(inputs, outputs, signature)
        return {name: array + np.asarray(in_progress, dtype=array.dtype) for name, array in answer.items()}

    def _double(self, array: np.ndarray) -> np.ndarray:
        if array.dtype == bool:
            return array
        if array.dtype == object:
            twice = np.empty(array.shape, dtype=object)
            twice.flat[:] = [element * 2 for element in array.flat]
            return twice
        doubled = array * np.asarray(2, dtype=array.dtype)
        if self._described.get("counts_hits"):
            return np.repeat(doubled[doubled > 0][:, np.newaxis], 4, axis=1)
        if self._described.get("not_batchable"):
            doubled = doubled + np.asarray(array.mean(), dtype=array.dtype)
        if self._described.get("stateful"):
            doubled = doubled + np.asarray(self._calls, dtype=array.dtype)
        return np.asarray(doubled, dtype=array.dtype)


def _specs(described: Any) -> Tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(item["name"], item.get("datatype", ""), None if item.get("shape") is None else tuple(item["shape"]))
        for item in described
    )


def _apply_effects(array: np.ndarray) -> None:
    """Have the effects of the values in the table above."""
    if array.dtype == object or array.dtype == bool:
        return
    if array.dtype.isbuiltin == 2:
        array = array.astype(np.float32)  # INT4 cannot be compared with numbers out of its range
    for value in (666, 777, 400, 500, 501, 507):
        if not (array == value).any():
            continue
        if value == 666:
            os.kill(os.getpid(), signal.SIGKILL)
        if value == 777:
            while True:
                time.sleep(3600)
        raise {400: InvalidInput, 500: RuntimeError, 501: Unsupported, 507: MemoryError}[value](
            "an input holds the value %d" % value
        )


def _connect(host: str, port: int) -> None:
    with socket.socket() as sock:
        sock.connect((host, port))


def _fork() -> None:
    if not os.fork():
        os._exit(0)


def _run(program: str) -> None:
    os.execv(program, [program])


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read()


def _write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"x")


def _chmod(path: str) -> None:
    os.chmod(path, 0o600)


def _signal(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


def _allocate(megabytes: int) -> None:
    ballast = b"x" * (megabytes << 20)
    while ballast:
        time.sleep(3600)


def _python(code: str) -> None:
    exec(code, {})  # noqa: S102 - a hostile model may run anything; the sandbox must hold


_ACTS: Dict[str, Callable[..., None]] = {
    "connect": _connect,
    "fork": _fork,
    "run": _run,
    "read": _read,
    "write": _write,
    "chmod": _chmod,
    "signal": _signal,
    "allocate": _allocate,
    "python": _python,
}
