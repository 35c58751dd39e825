"""Calls LiteRT's C interface for its profiler, which Python's interface lacks.

Structures and constants are those of LiteRT 2.3's headers litert_profiler_event.h, litert_layout.h,
litert_model_types.h and litert_common.h, for machines of 64 bits. What is created lives as long as the process, which
runs one job.
"""

import ctypes
import os
from typing import Any, Dict, List, NamedTuple, Tuple

import ai_edge_litert
import numpy as np

_Handle = ctypes.c_void_p
_MAX_RANK = 8
_CPU = 1  # kLiteRtHwAcceleratorCpu
_HOST_MEMORY = 1  # kLiteRtTensorBufferTypeHostMemory
_WRITE = 1  # kLiteRtTensorBufferLockModeWrite
_DESTRUCTOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_keep = _DESTRUCTOR(lambda payload: None)  # Python frees the payloads of options


class _Layout(ctypes.Structure):
    _fields_ = [
        ("rank", ctypes.c_uint32, 7),
        ("has_strides", ctypes.c_uint32, 1),
        ("dimensions", ctypes.c_int32 * _MAX_RANK),
        ("strides", ctypes.c_uint32 * _MAX_RANK),
    ]


class _TensorType(ctypes.Structure):
    _fields_ = [("element", ctypes.c_int), ("layout", _Layout)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("index", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    ]


class Event(NamedTuple):
    """
    tag       the name of an operator, or of a step of the inference
    kind      one of LiteRtProfilerEventType
    start_us  since the machine started; 0 if a delegate reports the event
    index     for an operator, its number in `subgraph`, or among the operators of a delegate
    """

    tag: str
    kind: int
    start_us: int
    elapsed_us: int
    index: int
    subgraph: int


class NativeError(Exception):
    """LiteRT's C interface refused a call. The message says which."""


class ProfiledModel:
    """A model that LiteRT runs with its profiler. One signature, and inputs of one shape."""

    def __init__(
        self, content: bytes, key: str, threads: int, inputs: Dict[int, np.ndarray], outputs: Dict[int, np.ndarray]
    ) -> None:
        """Load a file. Raises NativeError.

        key      of a signature; "" for the first
        inputs   tensor's number → array
        outputs  likewise, what another interface has returned for these inputs. Only their shapes matter, because
                 LiteRT knows some of them only after a run, and writes beyond a buffer that is too small
        """
        if not ai_edge_litert.__version__.startswith("2.3."):
            raise NativeError("it is LiteRT %s, and the interface is that of 2.3" % ai_edge_litert.__version__)
        path = os.path.join(os.path.dirname(ai_edge_litert.__file__), "libLiteRt.so")
        if not os.path.exists(path):
            raise NativeError("its package contains no libLiteRt.so")
        self._library = ctypes.CDLL(path)
        self._content = ctypes.create_string_buffer(content, len(content))
        self._payloads: List[Any] = []
        self._environment = self._made("CreateEnvironment", 0, None)
        model = self._made("CreateModelFromBuffer", self._environment, self._content, _size(len(content)))
        options = self._made("CreateOptions")
        self._call("SetOptionsHardwareAccelerators", options, _CPU)
        self._add(options, b"runtime_options_string", b"enable_profiling = true\n")
        self._add(options, b"xnnpack", b"num_threads = %d\n" % threads)
        self._model = self._made("CreateCompiledModel", self._environment, model, options)
        self._profiler = self._made("CompiledModelGetProfiler", self._model)
        self._number, signature = self._find_signature(model, key)
        self._inputs = self._input_buffers(signature, inputs)
        self._outputs = self._output_buffers(signature, outputs)

    def run(self) -> None:
        """Run an inference, with the inputs that were given. Raises NativeError."""
        self._call(
            "RunCompiledModel",
            self._model,
            self._number,
            _size(len(self._inputs)),
            self._inputs,
            _size(len(self._outputs)),
            self._outputs,
        )

    def start(self) -> None:
        self._call("ResetProfiler", self._profiler)
        self._call("StartProfiler", self._profiler)

    def stop(self) -> List[Event]:
        """Return the events since `start`, in the order in which they began."""
        self._call("StopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("GetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._call("GetProfilerEvents", self._profiler, count, events)
        return [
            Event(
                each.tag.decode("utf-8", "replace"),
                each.kind,
                each.start_us,
                each.elapsed_us,
                each.index,
                each.subgraph,
            )
            for each in events
        ]

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._library, "LiteRt" + function)(*arguments)
        if status:
            raise NativeError("LiteRt%s ended with status %d" % (function, status))

    def _made(self, function: str, *arguments: Any) -> Any:
        """Call a function whose last parameter is for a handle that it returns."""
        handle = _Handle()
        self._call(function, *arguments, ctypes.byref(handle))
        return handle

    def _count(self, function: str, *arguments: Any) -> int:
        count = ctypes.c_size_t()
        self._call(function, *arguments, ctypes.byref(count))
        return count.value

    def _add(self, options: Any, name: bytes, payload: bytes) -> None:
        self._payloads.append(ctypes.create_string_buffer(payload))
        opaque = self._made("CreateOpaqueOptions", name, self._payloads[-1], _keep)
        self._call("AddOpaqueOptions", options, opaque)

    def _find_signature(self, model: Any, key: str) -> Any:
        for number in range(self._count("GetNumModelSignatures", model)):
            signature = self._made("GetModelSignature", model, _size(number))
            name = ctypes.c_char_p()
            self._call("GetSignatureKey", signature, ctypes.byref(name))
            if not key or (name.value or b"").decode("utf-8", "replace") == key:
                return _size(number), signature
        raise NativeError("LiteRT's C interface finds no signature '%s'" % key)

    def _input_buffers(self, signature: Any, arrays: Dict[int, np.ndarray]) -> Any:
        found = self._tensors("Input", signature, arrays)
        for position, (kind, array) in enumerate(found):
            if list(kind.layout.dimensions[: kind.layout.rank]) != list(array.shape):
                where = self._model, self._number, _size(position)
                sizes = (ctypes.c_int * array.ndim)(*array.shape)
                self._call("CompiledModelResizeInputTensorNonStrict", *where, sizes, _size(array.ndim))
        buffers = []
        for position, (kind, array) in enumerate(found):
            where = self._model, self._number, _size(position)
            needs = self._made("GetCompiledModelInputBufferRequirements", *where)
            create = "CreateManagedTensorBufferFromRequirements"
            buffers.append(self._made(create, self._environment, _shaped(kind, array), needs))
            self._fill(buffers[-1], array)
        return (_Handle * len(found))(*buffers)

    def _output_buffers(self, signature: Any, arrays: Dict[int, np.ndarray]) -> Any:
        create, buffers = "CreateManagedTensorBuffer", []
        for kind, array in self._tensors("Output", signature, arrays):
            size = _size(array.nbytes)
            buffers.append(self._made(create, self._environment, _HOST_MEMORY, _shaped(kind, array), size))
        return (_Handle * len(buffers))(*buffers)

    def _tensors(self, side: str, signature: Any, arrays: Dict[int, np.ndarray]) -> List[Tuple[Any, np.ndarray]]:
        """Return the type of each tensor of a signature, and its array."""
        found = []
        for position in range(self._count("GetNumSignature%ss" % side, signature)):
            tensor = self._made("GetSignature%sTensorByIndex" % side, signature, _size(position))
            number = ctypes.c_uint32()
            self._call("GetTensorIndex", tensor, ctypes.byref(number))
            array = arrays.get(number.value)
            if array is None or array.dtype == object:
                raise NativeError("LiteRT's C interface has other tensors than are served, or strings")
            found.append((self._type(tensor), np.ascontiguousarray(array)))
        return found

    def _type(self, tensor: Any) -> Any:
        kind = _TensorType()
        self._call("GetRankedTensorType", tensor, ctypes.byref(kind))
        return kind

    def _fill(self, buffer: Any, array: np.ndarray) -> None:
        size = self._count("GetTensorBufferPackedSize", buffer)
        if array.nbytes != size:
            raise NativeError("LiteRT's C interface takes %d bytes for an input of another size" % size)
        address = _Handle()
        self._call("LockTensorBuffer", buffer, ctypes.byref(address), _WRITE)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)
        self._call("UnlockTensorBuffer", buffer)


def _shaped(kind: Any, array: np.ndarray) -> Any:
    """Return a reference to a tensor's type, with the shape of an array."""
    kind.layout.rank, kind.layout.has_strides = array.ndim, 0
    kind.layout.dimensions[: array.ndim] = array.shape
    return ctypes.byref(kind)


def _size(number: int) -> Any:
    return ctypes.c_size_t(number)
