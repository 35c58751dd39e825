"""PyTorch models on a CUDA device: the next batch is copied in while the current one is computed.

A batch is put together in pinned memory, copied in at once, computed, and copied out into pinned
memory, which is the answer. Each of the three has a stream of its own, so that the copies of one batch
run beside the computing of the other. Nothing waits for the device but `finish`.

Whatever a batch has on the device is held by its handle until its event has come: PyTorch's
allocator knows of one stream per tensor, and would give the memory to the next batch too early.
"""

from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from .graphs import Graphs
from .program import ERRORS, Program, TorchModel, translated, unservable


class Device(NamedTuple):
    """What of torch.cuda is used. `use` is a context in which a stream is the current one."""

    name: str
    pinned: bool
    stream: Callable[[], Any]
    use: Callable[[Any], Any]
    event: Callable[[], Any]
    synchronize: Callable[[], None]
    empty_cache: Callable[[], None]


# A blocking event gives the core away while it waits: others need it more than this thread.
CUDA = Device(
    "cuda",
    True,
    torch.cuda.Stream,
    torch.cuda.stream,
    partial(torch.cuda.Event, blocking=True),
    torch.cuda.synchronize,
    torch.cuda.empty_cache,
)
# The same code without a device, for tests: torch.cpu's streams and events do nothing.
HOST = Device(
    "cpu", False, torch.cpu.Stream, torch.cpu.stream, torch.cpu.Event, torch.cpu.synchronize, lambda: None
)  # fmt: skip


class Handle(NamedTuple):
    """A batch under way.

    held     what the device may still read or write
    answers  complete once `event` has come
    wanted   the outputs that the request names
    """

    event: Any
    held: List[Any]
    answers: Dict[str, Any]
    wanted: Sequence[str]


class DeviceModel(TorchModel):
    pipelined = True

    def __init__(
        self, program: Program, device: Device, graphs: bool = False, inference_mode: Optional[bool] = None
    ) -> None:
        # Inputs and answers are copies in any case, as they cross to the device and back.
        super().__init__(program._replace(pure=True), inference_mode)
        self._device = device
        self._in, self._compute, self._out = device.stream(), device.stream(), device.stream()
        self._run = Graphs(program.call, self._compute) if graphs else program.call
        self._dtypes: Dict[Any, torch.dtype] = {}

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        known = self._dtypes.get(dtype)
        if known is None:
            known = self._dtypes[dtype] = torch.from_numpy(np.empty(0, dtype)).dtype
        # PyTorch keeps pinned memory for the next one when the array is dropped.
        return torch.empty(tuple(shape), dtype=known, pin_memory=self._device.pinned).numpy()

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        return self.finish(self.start(inputs, outputs, signature))

    def start(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Handle:
        values, switches = self._values(inputs), False
        try:
            with self._mode():
                return self._start(values, outputs)
        except ERRORS as error:
            switches = self._switches(error)
            failure = self._translated(error, values)
        except Exception as error:  # the contract's own
            failure = error
        if switches:
            return self.start(inputs, outputs, signature)
        return self._give_up(failure)

    def finish(self, handle: Handle) -> Dict[str, np.ndarray]:
        try:
            handle.event.synchronize()
            return self._arrays(handle.answers, handle.wanted)
        except ERRORS as error:
            failure = translated(error)
        finally:
            handle.held.clear()
        return self._give_up(failure)

    def _start(self, values: List[Any], outputs: Sequence[str]) -> Handle:
        device = self._device
        with device.use(self._in):
            given = [_to(value, device.name) for value in values]
        self._compute.wait_stream(self._in)
        with device.use(self._compute):
            named = self._call(self._run, given, outputs)
            results = {name: _contiguous(value) for name, value in named.items()}
        self._out.wait_stream(self._compute)
        with device.use(self._out):
            answers = {name: self._fetched(value) for name, value in results.items()}
            event = device.event()
            event.record(self._out)
        return Handle(event, [values, given, named, results], answers, outputs)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """In pinned memory: as it is where the worker put it there, else copied."""
        tensor = torch.from_numpy(array)
        if self._device.pinned and tensor.is_pinned():
            return tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._device.pinned).copy_(tensor)

    def _fetched(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or unservable(value):
            return value  # for `finish`, which leaves it out
        pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=self._device.pinned)
        return pinned.copy_(value.detach(), non_blocking=True)

    def _give_up(self, failure: Exception) -> Any:
        """Outside of `except`, where the error would hold the frames, and these the device's memory."""
        try:
            # What was begun may still run, on memory that is free by now.
            self._device.synchronize()
        except ERRORS as error:
            raise translated(error) from None
        if isinstance(failure, MemoryError):
            self._device.empty_cache()
        raise failure


def _to(value: Any, device: str) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _contiguous(value: Any) -> Any:
    return value.contiguous() if isinstance(value, torch.Tensor) and not unservable(value) else value
