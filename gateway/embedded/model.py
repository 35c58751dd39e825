"""A model that a program has loaded, as it uses it."""

import asyncio
import atexit
import logging
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np

from gateway.config import SettingsError, Sources, read_settings
from gateway.domain.image_processing import Preprocess
from gateway.domain.types import InferRequest, InferResponse, ModelStatus, complete_specs
from gateway.embedded.arrays import named_inputs, to_arrays, to_rows, to_tensors
from gateway.embedded.background import Background, background, stop
from gateway.embedded.host import Host
from gateway.embedded.location import absolute, fetched, find_model
from gateway.embedded.options import ModelSpec
from gateway.embedded.progress import Ahead, print_progress, tracked
from gateway.environments.runtime import discover
from gateway.errors import InvalidRequest, Unavailable
from runtimes.contract import Signature

Arrays = dict[str, np.ndarray]

log = logging.getLogger("models")


class Model:
    """A model in its own environment and process. Create it with `modelport.load`.

    All methods may be called from any thread. Requests of several threads run in one batch where the model allows it.
    If the worker process dies, it is replaced, and its requests are sent again, as in a gateway.

    spec     how it was loaded; its location means the same in other working directories
    name     as a gateway would serve it
    version  a number
    """

    def __init__(self, spec: ModelSpec, progress: bool = True) -> None:
        """Raises ModelportError. Use `modelport.load`."""
        self.spec = replace(spec, location=absolute(spec.location))
        try:
            settings = read_settings(Sources())
        except SettingsError as error:
            raise InvalidRequest(str(error)) from None
        runtimes = discover()
        chosen, *others = find_model(fetched(spec.location), spec.version, runtimes)
        artifact = chosen.artifact
        if artifact is not None and artifact.runtime.model_code and not spec.allow_python:
            raise InvalidRequest(
                f"model '{chosen.name}' is a program; pass allow_python=True (--allow-python) if you trust its author"
            )
        configs = [spec.configure(chosen), *others]
        if spec.timeout_s is not None and not (isinstance(spec.timeout_s, int | float) and spec.timeout_s > 0):
            raise InvalidRequest(
                f"modelport.load: 'timeout_s' is {spec.timeout_s!r}, but it must be a number of seconds above 0; leave "
                "it out to wait as long as it takes"
            )
        self.name, self.version, self._fingerprint = chosen.name, chosen.version, chosen.fingerprint
        self._batch_sizes = configs[0].toml.batch_sizes
        self._background = background()
        self._background.check()
        on_progress = print_progress if progress else _ignore
        self._host = self._background.run(_start(partial(Host, configs, spec, settings, runtimes, on_progress)))
        # When the model is forgotten, its worker ends. At the end of the program, the loop cannot wait for that.
        self._finalizer = weakref.finalize(self, _release, self._background, self._host)
        self._finalizer.atexit = False

    @property
    def _status(self) -> ModelStatus:
        self._check()
        return self._host.status

    @property
    def signature(self) -> Signature:
        """The inputs and outputs: records of name, datatype (of the Open Inference Protocol) and shape.

        In a shape, -1 is any size; if the model batches, the first dimension counts rows. What the artifact does not
        say is known after the first request; until then, a datatype is "" and a shape None.
        """
        declared, status = self.declared, self._status
        if status.learned is None:
            return declared
        return declared._replace(
            inputs=tuple(complete_specs(declared.inputs or status.learned.inputs, status.learned.inputs)),
            outputs=tuple(complete_specs(declared.outputs or status.learned.outputs, status.learned.outputs)),
        )

    @property
    def declared(self) -> Signature:
        """The signature without what requests have revealed."""
        return self._status.signature() or Signature((), ())

    @property
    def max_batch_size(self) -> int:
        """The most rows that run together; 0 if the model runs each request alone (docs/batching.md)."""
        return self._status.max_batch_size

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The sizes that batches are filled up to, as model.toml declares them; empty if they may have any size."""
        return self._batch_sizes

    @property
    def has_rows(self) -> bool:
        """Whether the first dimension of all tensors counts rows."""
        return self._status.has_rows and self._status.batch_dim == 0

    @property
    def instances(self) -> int:
        """How many worker processes the model has when all of them run."""
        return self._status.instances

    @property
    def preprocess(self) -> Preprocess | None:
        """How images become its input, by [preprocess] of model.toml; None if there is none."""
        return self._status.preprocess

    @property
    def fingerprint(self) -> str:
        """A text that changes when the model's files change."""
        return self._fingerprint

    def infer(self, inputs: Any = None, /, *, outputs: Sequence[str] = (), **arrays: Any) -> Arrays:
        """Run the model once, and return its outputs by name. Strings are object arrays of bytes.

        inputs   a mapping of names to arrays, for names that are no Python words; or the array of the only input, or
                 of the only one that is not optional
        outputs  the names of those to compute; empty for all
        arrays   the inputs by name: arrays, or anything that numpy makes an array of. Numbers are converted to the
                 input's datatype if they are in its range

        Raises ModelportError, with the sentences that clients of a gateway get.
        """
        answer = self._send(inputs, outputs, arrays)
        try:
            return to_arrays(answer.result().outputs)
        except BaseException:
            answer.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def submit(self, inputs: Any = None, /, *, outputs: Sequence[str] = (), **arrays: Any) -> "Future[Arrays]":
        """Do what `infer` does without waiting: the result is in the future. The arrays must not change until then.

        In a coroutine, `await asyncio.wrap_future(model.submit(...))` waits without blocking the event loop.
        """
        answer, result = self._send(inputs, outputs, arrays), Future[Arrays]()
        _waiting[answer] = self  # `load(...).submit(...)` must not end the worker
        answer.add_done_callback(_waiting.pop)
        answer.add_done_callback(partial(_convert, result))
        result.add_done_callback(lambda result: answer.cancel() if result.cancelled() else None)
        return result

    def map(
        self,
        batches: Iterable[Mapping[str, Any]],
        *,
        outputs: Sequence[str] = (),
        progress: bool = False,
        total: int | None = None,
    ) -> Iterator[Arrays]:
        """Run the model on each of the batches, and yield its outputs in the same order.

        A few batches are sent ahead, so that the model never waits; so `batches` may be endless.

        progress  whether to show a progress bar on standard error
        total     the number of batches, for the progress bar, if `batches` does not know it
        """
        ahead = Ahead(self.submit, outputs, 2 * self.instances + 1)
        return tracked(ahead.run(batches), progress, total or _length(batches), self.name)

    def batches(
        self, inputs: Any, *, rows: int = 0, outputs: Sequence[str] = (), progress: bool = False
    ) -> Iterator[Arrays]:
        """Run the model on arrays of many rows in slices of `rows` each, and yield the outputs of each slice.

        rows  0 for the largest batch that the model runs. An input without rows is the same for each slice
        """
        if rows < 0:
            raise InvalidRequest(f"'rows' is {rows}, but it must be a number, or 0 for the model's largest batch")
        signature = self.signature
        given = named_inputs(inputs, {}, signature)
        whole = {spec.name: given.pop(spec.name) for spec in signature.unbatched if spec.name in given}
        arrays = to_rows(given, signature.inputs)
        size, count = rows or max(self.max_batch_size, 1), len(next(iter(arrays.values())))
        starts = range(0, count, size)
        slices = ({name: array[start : start + size] for name, array in arrays.items()} | whole for start in starts)
        return self.map(slices, outputs=outputs, progress=progress, total=len(starts))

    def close(self) -> None:
        """End the worker. Requests in progress fail. A second call does nothing."""
        self._background.check()
        if self._finalizer.detach():
            self._background.run(self._host.close())
            _loaded.discard(self._host)

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<modelport.Model {self.name} version {self.version}{', closed' if self.closed else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a loaded model cannot be pickled, because it has a process here: pickle model.spec, and call its load() "
            "in the other process"
        )

    def _check(self) -> None:
        self._background.check()
        if self.closed:
            raise Unavailable(f"model '{self.name}' is closed; load it again")

    def _send(self, inputs: Any, outputs: Sequence[str], arrays: Mapping[str, Any]) -> "Future[InferResponse]":
        self._check()
        signature = self.signature
        specs = signature.inputs + signature.unbatched
        tensors = to_tensors(named_inputs(inputs, arrays, signature), specs)
        answer = Future[InferResponse]()
        self._background.call(
            self._host.submit, InferRequest(self.name, tensors, self.version, outputs=tuple(outputs)), answer
        )
        return answer


async def _start(create: "partial[Host]") -> Host:
    host = create()
    _loaded.add(host)
    try:
        await host.ready()
    except BaseException:
        await host.close()
        _loaded.discard(host)
        raise
    return host


def _convert(result: "Future[Arrays]", answer: "Future[InferResponse]") -> None:
    if answer.cancelled() or not result.set_running_or_notify_cancel():
        return
    try:
        arrays = to_arrays(answer.result().outputs)
    except Exception as error:
        finish = partial(result.set_exception, error)
    else:
        finish = partial(result.set_result, arrays)
    try:
        finish()
    except BaseException:  # such as sys.exit in a callback of the program. This thread belongs to all models
        log.exception("a callback of a result raised an exception")


def _length(batches: Any) -> int | None:
    return len(batches) if hasattr(batches, "__len__") else None


def _ignore(line: str) -> None:
    pass


def _release(owner: Background, host: Host) -> None:
    """The garbage collector calls this on any thread, perhaps that of the loop, so it cannot wait."""
    if os.getpid() == owner.pid:
        owner.loop.call_soon_threadsafe(_close_later, host)


def _close_later(host: Host) -> None:
    task = asyncio.ensure_future(host.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    task.add_done_callback(lambda _: _loaded.discard(host))


# Hosts whose workers must end with the interpreter, the tasks that close others, and the models of requests that are
# in progress.
_loaded: set[Host] = set()
_closing: set["asyncio.Task[None]"] = set()
_waiting: dict["Future[InferResponse]", Model] = {}


def _kill_all() -> None:
    stop()
    for host in list(_loaded):
        host.kill()


atexit.register(_kill_all)
