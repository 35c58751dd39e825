"""Check the CUDA path with PyTorch but without a device, in the runtime's environment. A failed check raises.

Streams and events are torch.cpu's; fakes stand in for graphs and for memory that runs out. So this shows
what our code does with them, not what CUDA does.
"""

import contextlib
import importlib.util
import json
import os
import platform
import sys
import tempfile
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[3] / "runtimes"
spec = importlib.util.spec_from_file_location("runtimes", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["runtimes"] = importlib.util.module_from_spec(spec)

from runtimes.contract import DeviceLost, InvalidInput, LoadError, LoadOptions, Signature, TensorSpec  # noqa: E402
from runtimes.torchscript import aoti  # noqa: E402
from runtimes.torchscript.cuda import HOST, DeviceModel  # noqa: E402
from runtimes.torchscript.graphs import Graphs  # noqa: E402
from runtimes.torchscript.names import ResultNames  # noqa: E402
from runtimes.torchscript.program import TENSOR, Program  # noqa: E402

X, Y = TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "FP32", (-1, 2))
ONES = {"x": np.ones((3, 2), np.float32)}


def model(call, device=HOST):
    named = ResultNames([Y]).of
    return DeviceModel(Program(call, [TENSOR], Signature((X,), (Y,)), named, True, torch.nn.Module()), device)


def raises(kind, call):
    try:
        call()
    except kind:
        return
    raise AssertionError(f"it raised no {kind.__name__}")


def memory_that_runs_out_is_a_memory_error_and_is_given_back():
    calls = []
    device = HOST._replace(synchronize=lambda: calls.append("wait"), empty_cache=lambda: calls.append("empty"))
    left = iter([torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")])

    def call(values):
        for error in left:
            raise error
        return values[0] * 2

    runs_out = model(call, device)
    for _ in range(2):
        raises(MemoryError, lambda: runs_out.start(ONES, [], "default"))
    assert calls == ["wait", "empty", "wait", "empty"], calls
    assert runs_out.infer(ONES, [], "default")["y"].tolist() == [[2, 2]] * 3


def errors_are_whose_fault_they_are():
    for text, kind in {
        "CUDA error: device-side assert triggered": DeviceLost,
        "CUDA error: an illegal memory access was encountered": DeviceLost,
        "CUDA error: no kernel image is available for execution": RuntimeError,
        "shapes cannot be multiplied": InvalidInput,
    }.items():

        def call(values, text=text):
            raise RuntimeError(text)

        raises(kind, lambda call=call: model(call).infer(ONES, [], "default"))


def an_error_at_the_event_is_raised_by_finish():
    class Late(torch.cpu.Event):
        def synchronize(self):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    late = model(lambda values: values[0], HOST._replace(event=Late))
    handle = late.start(ONES, [], "default")
    raises(DeviceLost, lambda: late.finish(handle))


def a_handle_holds_its_batch_until_it_is_finished():
    doubles = model(lambda values: values[0] * 2)
    one, two = (doubles.start({"x": np.full((1, 2), value, np.float32)}, [], "default") for value in (1, 2))
    assert all(one.held)
    assert doubles.finish(one)["y"].tolist() == [[2, 2]]
    assert not one.held
    assert doubles.finish(two)["y"].tolist() == [[4, 4]]


class FakeGraph:
    """Replays by calling the function again and writing into the outputs of the recording."""

    current = None

    def __init__(self):
        self.calls = []

    def replay(self):
        for place, call in self.calls:
            place.copy_(call())


@contextlib.contextmanager
def recording(graph, stream):
    FakeGraph.current = graph
    try:
        yield
    finally:
        FakeGraph.current = None


def graphs_are_replayed_by_shape():
    FakeGraph.current, torch.cuda.CUDAGraph, torch.cuda.graph = None, FakeGraph, recording
    eager = []

    def call(values):
        (x,) = values
        if FakeGraph.current is None:
            eager.append(len(x))
            return {"y": x * 2}
        if len(x) == 5:
            raise RuntimeError("operation not permitted when stream is capturing")
        y = torch.empty_like(x)
        FakeGraph.current.calls.append((y, lambda: x * 2))
        return {"y": y}

    graphs = Graphs(call, None)
    first = graphs([torch.ones(2)])["y"]
    second = graphs([torch.full((2,), 3.0)])["y"]
    assert (first.tolist(), second.tolist()) == ([2, 2], [6, 6]), "an answer shares memory with the next"
    assert eager == [2, 2, 2], eager
    assert graphs([torch.ones(4)])["y"].tolist() == [2] * 4
    assert eager == [2, 2, 2, 4, 4, 4], eager
    del eager[:]
    for _ in range(2):
        assert graphs([torch.ones(5)])["y"].tolist() == [2] * 5
    assert eager == [5, 5, 5, 5, 5], "what cannot be recorded is called"


def shapes_without_number_are_not_all_recorded():
    FakeGraph.current, torch.cuda.CUDAGraph, torch.cuda.graph = None, FakeGraph, recording
    calls = []
    graphs = Graphs(lambda values: calls.append(1) or values[0], None)
    for size in range(1, 41):
        graphs([torch.ones(size)])
    recorded = 32
    assert len(calls) == recorded * 4 + (40 - recorded), len(calls)


def packages_for_other_machines_are_refused():
    here = {"AOTI_PLATFORM": sys.platform, "AOTI_MACHINE": platform.machine()}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.pt2")
        for facts, words in (
            ({"AOTI_DEVICE_KEY": "cuda"}, "was compiled for cuda, and the model runs on cpu"),
            ({"AOTI_MACHINE": "s390x"}, "was compiled for s390x on"),
            ({"AOTI_CPU_ISA": "AVX512 AMX_FP16"}, "for processors with A"),
            ({}, "cannot load this AOTInductor package"),
        ):
            with zipfile.ZipFile(path, "w") as archive:
                top = "model/data/aotinductor/model/a.wrapper"
                archive.writestr(top + ".so", b"machine code")
                archive.writestr(top + "_metadata.json", json.dumps({"AOTI_DEVICE_KEY": "cpu", **here, **facts}))
            instructions = dict.fromkeys(aoti._INSTRUCTIONS, lambda: False)
            try:
                with mock.patch.dict(aoti._INSTRUCTIONS, instructions):
                    aoti.load(LoadOptions(path, allow_code=True))
                raise AssertionError("it loaded")
            except LoadError as error:
                if words not in str(error):
                    raise AssertionError(str(error)) from None


if __name__ == "__main__":
    for check in (
        packages_for_other_machines_are_refused,
        memory_that_runs_out_is_a_memory_error_and_is_given_back,
        errors_are_whose_fault_they_are,
        an_error_at_the_event_is_raised_by_finish,
        a_handle_holds_its_batch_until_it_is_finished,
        graphs_are_replayed_by_shape,
        shapes_without_number_are_not_all_recorded,
    ):
        check()
        print(check.__name__, flush=True)
    os._exit(0)
