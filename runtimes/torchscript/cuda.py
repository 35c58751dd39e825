"""Runs PyTorch models on a CUDA device, and copies the next batch to it while the current one is computed.

A batch is assembled in pinned memory, copied to the device, computed, and copied into pinned memory, which is the
answer. Each of these steps has its own stream, so that the copies of one batch overlap with the computation of another.
Only `finish` waits for the device.

A batch's handle keeps all its tensors on the device until its event has occurred. PyTorch's allocator assumes that a
tensor is used on the stream on which it was allocated, and would otherwise reuse the memory for the next batch while
another stream still reads it.
"""

from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from .dtypes import to_array, to_tensor
from .graphs import Graphs
from .program import ERRORS, Program, TorchModel, to_contract_error, unservable


class Device(NamedTuple):
    """The functions of torch.cuda that are used. `use` is a context manager that makes a stream the current one."""

    name: str
    pinned: bool
    stream: Callable[[], Any]
    use: Callable[[Any], Any]
    event: Callable[[], Any]
    synchronize: Callable[[], None]
    empty_cache: Callable[[], None]


# A blocking event yields the core while it waits, because other processes need it.
CUDA = Device(
    "cuda",
    True,
    torch.cuda.Stream,
    torch.cuda.stream,
    partial(torch.cuda.Event, blocking=True),
    torch.cuda.synchronize,
    torch.cuda.empty_cache,
)
# For tests without a device: streams and events of torch.cpu do nothing.
HOST = Device(
    "cpu", False, torch.cpu.Stream, torch.cpu.stream, torch.cpu.Event, torch.cpu.synchronize, lambda: None
)  # fmt: skip


class Handle(NamedTuple):
    """A batch in progress.

    held       the tensors that the device may still read or write
    answers    the outputs, which are complete once `event` has occurred
    requested  the names of the outputs that the request names
    """

    event: Any
    held: List[Any]
    answers: Dict[str, Any]
    requested: Sequence[str]


class DeviceModel(TorchModel):
    pipelined = True

    def __init__(
        self, program: Program, device: Device, graphs: bool = False, inference_mode: Optional[bool] = None
    ) -> None:
        # `pure` avoids more copies: inputs and outputs are copied to the device and back in any case.
        super().__init__(program._replace(pure=True), inference_mode)
        self._device = device
        self._in, self._compute, self._out = device.stream(), device.stream(), device.stream()
        self._run = Graphs(program.call, self._compute) if graphs else program.call
        self._dtypes: Dict[Any, torch.dtype] = {}

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        torch_dtype = self._dtypes.get(dtype)
        if torch_dtype is None:
            torch_dtype = self._dtypes[dtype] = to_tensor(np.empty(0, dtype)).dtype
        # PyTorch reuses the pinned memory once the array has been garbage-collected.
        return to_array(torch.empty(tuple(shape), dtype=torch_dtype, pin_memory=self._device.pinned))

    def infer(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Dict[str, np.ndarray]:
        return self.finish(self.start(inputs, outputs, signature))

    def start(self, inputs: Dict[str, np.ndarray], outputs: Sequence[str], signature: str) -> Handle:
        values, retry = self._values(inputs), False
        try:
            with self._mode():
                return self._start(values, outputs)
        except ERRORS as error:
            retry = self._leaves_inference_mode(error)
            failure = self._to_contract_error(error, values)
        except Exception as error:  # an error of the contract
            failure = error
        if retry:
            return self.start(inputs, outputs, signature)
        return self._fail(failure)

    def finish(self, handle: Handle) -> Dict[str, np.ndarray]:
        try:
            handle.event.synchronize()
            return self._arrays(handle.answers, handle.requested)
        except ERRORS as error:
            failure = to_contract_error(error)
        finally:
            handle.held.clear()
        return self._fail(failure)

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
        """Return the array as a tensor in pinned memory, which is a copy unless the worker used `empty`."""
        tensor = to_tensor(array)
        if self._device.pinned and tensor.is_pinned():
            return tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._device.pinned).copy_(tensor)

    def _fetched(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or unservable(value):
            return value  # `finish` leaves it out
        pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=self._device.pinned)
        return pinned.copy_(value.detach(), non_blocking=True)

    def _fail(self, failure: Exception) -> Any:
        """Raise `failure`, after the device has stopped.

        Must be called outside of `except`: there, the traceback keeps the frames alive, and they keep the memory.
        """
        try:
            # Kernels that were launched may still run, on memory that is free by now.
            self._device.synchronize()
        except ERRORS as error:
            raise to_contract_error(error) from None
        if isinstance(failure, MemoryError):
            self._device.empty_cache()
        raise failure


def _to(value: Any, device: str) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _contiguous(value: Any) -> Any:
    return value.contiguous() if isinstance(value, torch.Tensor) and not unservable(value) else value
