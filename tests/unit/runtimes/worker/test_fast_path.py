"""The fast path answers as the general path does, runs the model as often, and shows the same on the status page."""

import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.engine.arena import Arena
from runtimes import request_frames, result_frames, status_page, wire
from runtimes.contract import InvalidInput, Model, Signature, TensorSpec, Unsupported
from runtimes.layouts import by_row, cached, new_layout
from runtimes.status_page import StatusPage
from runtimes.tensors import Tensor, from_array
from runtimes.worker.batcher import Batching
from runtimes.worker.connection import Connection
from runtimes.worker.execute import Executor
from runtimes.worker.facts import Facts
from runtimes.worker.loop import Loop

Arrays = dict[str, np.ndarray]
MAX_RESPONSE_BYTES = 100_000
ERRORS = {400: InvalidInput, 500: RuntimeError, 501: Unsupported, 507: MemoryError}
# What a model may return: for the general path only, unless it is plain. The order of the rows does not matter.
OUTPUTS: dict[str, Callable[[np.ndarray], np.ndarray | None]] = {
    "plain": lambda x: 2 * x,
    "none": lambda x: None,
    "none for 2": lambda x: None if (x[:, 0] == 2).any() else 2 * x,
    "transposed": lambda x: np.asfortranarray(2 * x),
    "another shape for 2": lambda x: x[:, :1] if (x[:, 0] == 2).any() else 2 * x,
    "another datatype for 2": lambda x: x.astype(np.float64 if (x[:, 0] == 2).any() else np.float32),
    "integers": lambda x: x.astype(np.int64),
    "large": lambda x: np.repeat(x, 2000, axis=1),
    "too large": lambda x: np.repeat(x, 20_000, axis=1),
    "strings": lambda x: x.astype("U8"),
    "other byte order": lambda x: x.astype(">f4"),
    "empty": lambda x: x[:, :0],
    "fewer rows": lambda x: x[x[:, 0] > 0],
    "more dimensions": lambda x: x[:, :, np.newaxis],
    "not in the protocol": lambda x: x.astype(np.complex64),
}


class Recorder(Model):
    """Returns `y` as OUTPUTS[kind] says. runs: the shape of the input and the ids on the page, of each run."""

    def __init__(self, page: StatusPage, kind: str, fits: int, has_gaps: bool, pipelined: bool) -> None:
        self.runs: list[tuple[Any, frozenset[int]]] = []
        self.pipelined = pipelined
        self._page, self._output, self._fits = page, OUTPUTS[kind], fits
        output = TensorSpec("y") if has_gaps else TensorSpec("y", "FP32", (-1, -1))
        self.signatures = {"s": Signature((TensorSpec("x", "FP32", (-1, -1)),), (output,))}

    def infer(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Arrays:
        assert self._page.busy_since() > 0
        x = inputs["x"]
        self.runs.append(({name: (array.dtype, array.shape) for name, array in inputs.items()}, self._page.running()))
        if x.dtype == object:
            return {"y": x}
        for value, error in ERRORS.items():
            if (x == value).any():
                raise error(f"the input has a {value}")
        if x.ndim and len(x) > self._fits:
            raise MemoryError
        output = self._output(x) if x.ndim == 2 else x
        return {} if output is None else {"y": output}

    def start(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Any:
        return inputs, outputs, signature

    def finish(self, handle: Any) -> Arrays:
        return self.infer(*handle)


class Worker:
    """A worker's loop, whose turns run here, and a front's connection to it. served: frames on the fast path."""

    def __init__(self, folder: str, batching: Batching, share: float, is_fast: bool, **model: Any) -> None:
        page = str(Path(folder, "fast" if is_fast else "general"))
        status_page.create(page)
        self.page = StatusPage(page)
        self.model = Recorder(self.page, **model)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(page + ".socket")
        self.listener.listen()
        self.control, theirs = socket.socketpair()
        facts = Facts(self.model.signatures, self.model.signatures, self.model.pipelined, batching, "", "")
        executor = Executor(self.model, batching, MAX_RESPONSE_BYTES)
        self.loop = Loop(executor, self.listener, Connection(theirs), self.page, facts, share)
        self.front = socket.socket(socket.AF_UNIX)
        self.front.connect(page + ".socket")
        self.front.setblocking(False)
        self.loop.turn(0.0)
        self._reader = wire.FrameReader()
        self.served, self._is_fast, self._watched = 0, is_fast, None
        self._watch()

    def share(self, arena: Arena) -> None:
        """Have the worker map the memory from which it reads large inputs."""
        greeting = wire.pack_json(wire.ARENA, {"size": arena.size, "results": 0})
        socket.send_fds(self.front, [greeting], [arena.descriptor])
        assert self.ask(b"") == [("arena", {})]

    def _watch(self) -> None:
        path = self.loop._fast_path
        if path is self._watched:
            return
        self._watched, serve = path, path.serve

        def counted(*given: Any) -> Any:
            done = serve(*given) if self._is_fast else None
            self.served += done is not None
            return done

        path.serve = counted  # type: ignore[method-assign]

    def ask(self, sent: bytes) -> list[Any]:
        """Return what the front gets for what it sends in one write: of each id, a failure or the result's tensors."""
        self.front.sendall(sent)
        answers = []
        delay = 0.0
        for _ in range(100):
            timeout = self.loop.turn(delay)
            delay = timeout or 0.0
            if delay and not self.loop._batcher:
                break
        else:
            raise AssertionError("the worker is never idle")
        self._watch()  # after batching was switched off, there is another one
        while True:
            try:
                data = self.front.recv(1 << 20)
            except BlockingIOError:
                break
            for frame in self._reader.feed(data):
                if frame.kind == wire.ERROR:
                    answers.append((frame.id, result_frames.unpack_failure(frame.body)[:2]))
                    continue
                if frame.kind == wire.ARENA:
                    answers.append(("arena", wire.unpack_json(frame.body)))
                    continue
                for number, result in result_frames.unpack_result(frame.body, frame.flags):
                    tensors = [(*tensor[:3], bytes(tensor.data)) for tensor in result.outputs]
                    assert min(result[:4]) >= 0
                    answers.append((number, result.batch_rows, result.final, tensors))
                answers.append(("frame", frame.flags))
        assert self.page.busy_since() == 0
        return answers

    def state(self) -> Any:
        """Return what has run since the last time, what later batches depend on, and what the supervisor is told."""
        self.control.setblocking(False)
        try:
            told = self.control.recv(1 << 16)
        except BlockingIOError:
            told = b""
        executor = self.loop._executor
        fitting = executor.chunked_model._rows_that_fit.entries
        runs, self.model.runs = self.model.runs, []
        return runs, told, executor.batching, executor.refusal, fitting, self.loop._auditor.since_look

    def close(self) -> None:
        for each in (self.front, self.listener, self.control):
            each.close()
        for connection in self.loop._connections.values():
            connection.close()


@contextmanager
def workers(batching: Batching, share: float = 0.0, **model: Any) -> Iterator[tuple[Worker, Worker]]:
    """Start a worker with the fast path and one without."""
    model = {"kind": "plain", "fits": 1000, "has_gaps": False, "pipelined": False, **model}
    with tempfile.TemporaryDirectory() as folder:
        fast, general = (Worker(folder, batching, share, is_fast, **model) for is_fast in (True, False))
        with closing(fast), closing(general):
            yield fast, general


def infer(ids: Sequence[int], each: Sequence[np.ndarray], dim: int | None = 0, **given: Any) -> bytes:
    """Return an INFER frame. The rows, in dimension `dim`, are left open by its layout unless that is None."""
    inputs = [[*from_array("x", array)][3] for array in each]
    first = Tensor(
        "x", "BYTES" if each[0].dtype == object else from_array("x", each[0]).datatype, each[0].shape, inputs[0]
    )
    layout = new_layout("s", given.get("outputs", ()), [first])
    layout = cached(layout if dim is None else by_row(layout, dim))
    count = len(ids)
    deadlines, priorities = given.get("deadlines") or [1e12] * count, given.get("priorities") or [1] * count
    rows = [1 if dim is None else array.shape[dim] for array in each]
    flags = wire.ISOLATED if given.get("isolated") else 0
    offsets = given.get("offsets", ())
    flags |= wire.IN_ARENA if offsets else 0
    data = [[each] for each in inputs]
    packed = request_frames.pack_requests(ids, deadlines, priorities, rows, layout, data, flags, offsets)
    return b"".join(map(bytes, packed))


def rows_of(values: Sequence[float], dtype: Any = np.float32) -> np.ndarray:
    return np.array([[value, value + 0.5] for value in values], dtype)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("max_rows", [0, 16])
def test_whatever_a_model_returns_is_answered_alike(kind: str, max_rows: int, count: int) -> None:
    batching = Batching(max_rows, frozenset({"s"} if max_rows else ()))
    with workers(batching, kind=kind) as (fast, general):
        for turn in range(3):
            ids = range(10 * turn, 10 * turn + count)
            sent = infer(ids, [rows_of([turn + 1] * (1 + number % 2)) for number in range(count)])
            assert fast.ask(sent) == general.ask(sent)
            assert fast.state() == general.state()
        assert fast.served == (3 if max_rows or count == 1 else 0) or kind == "fewer rows"
        assert not general.served


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("max_rows", [0, 16])
def test_an_input_in_the_arena_is_answered_alike(kind: str, max_rows: int, isolated: bool) -> None:
    arena = Arena(1 << 20)
    with workers(Batching(max_rows, frozenset({"s"} if max_rows else ())), kind=kind) as (fast, general):
        for worker in (fast, general):
            worker.share(arena)
        for turn in range(3):
            rows = rows_of([turn + 1] * (1 + turn))
            block = arena.allocate(1000 + rows.nbytes)  # the block before lies elsewhere
            assert block is not None
            block[1000:] = rows.tobytes()
            offset = arena.offset_of(block[1000:])
            assert offset is not None
            sent = infer([turn], [rows], offsets=[offset], isolated=isolated)
            assert fast.ask(sent) == general.ask(sent)
            assert fast.state() == general.state()
        assert fast.served == (0 if isolated else 3) or kind == "fewer rows"
        assert not general.served


def test_a_frame_that_names_bytes_beyond_the_arena_fails_alone() -> None:
    arena = Arena(1 << 16)
    with workers(Batching(16, frozenset({"s"}))) as (fast, general):
        for worker in (fast, general):
            worker.share(arena)
            beyond, right = ([number, arena.size - size] for number, size in ((1, 4), (2, 8)))
            ((number, failure), *_) = worker.ask(infer(beyond[:1], [rows_of([1])], offsets=beyond[1:]))
            assert number == 1
            assert failure[0] in ("internal", "invalid")
            assert worker.ask(infer(right[:1], [rows_of([1])], offsets=right[1:]))[0][0] == 2


@pytest.mark.parametrize(
    ("why", "batching", "model"),
    [
        ("padded", Batching(8, frozenset({"s"}), sizes=(4, 8)), {}),
        ("rows in the second dimension", Batching(8, frozenset({"s"}), dim=1), {}),
        ("a target", Batching(8, frozenset({"s"}), target=10.0), {}),
        ("a delay", Batching(8, frozenset({"s"}), delay=0.001), {}),
        ("pipelined", Batching(8, frozenset({"s"})), {"pipelined": True}),
    ],
)
def test_models_that_need_more_take_the_general_path(why: str, batching: Batching, model: dict[str, Any]) -> None:
    with workers(batching, **model) as (fast, general):
        sent = infer([1], [rows_of([3, 4])], dim=batching.dim)
        assert fast.ask(sent) == general.ask(sent)
        assert fast.served == 0


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_missing_output_is_the_first_thing_that_is_wrong(kind: str) -> None:
    with workers(Batching(8, frozenset({"s"})), kind=kind) as (fast, general):
        for number, outputs in enumerate((("z",), ("y",), ("z", "y"))):
            sent = infer([number], [rows_of([1])], outputs=outputs)
            assert fast.ask(sent) == general.ask(sent)


def test_requests_of_several_priorities_that_fit_at_once_take_the_fast_path() -> None:
    """They run together, so none of them is first. If their batch fails, each runs again, in their order."""
    with workers(Batching(8, frozenset({"s"}))) as (fast, general):
        for values in ([1, 2, 3], [1, *ERRORS]):
            ids = range(len(values))
            sent = infer(ids, [rows_of([each]) for each in values], priorities=[3, 1, 2, 1, 3][: len(values)])
            assert by_id(fast.ask(sent)) == by_id(general.ask(sent))
            assert fast.state() == general.state()
        assert fast.served == 2


def test_requests_run_as_they_are_when_batching_by_another_dimension_is_off() -> None:
    """Fronts leave the rows open until they know that batching is off."""
    with workers(Batching()) as (fast, general):
        for number in range(2):
            sent = infer([number], [rows_of([1, 2, 3])], dim=1)
            assert fast.ask(sent) == general.ask(sent)
            state = fast.state()
            assert state == general.state()
        assert state[0][0][0]["x"][1] == (3, 2)
        assert fast.served == 2


def test_what_a_signature_lacks_is_learned_before_the_fast_path_serves() -> None:
    with workers(Batching(8, frozenset({"s"})), has_gaps=True) as (fast, general):
        for number in range(2):
            sent = infer([number], [rows_of([3])])
            assert fast.ask(sent) == general.ask(sent)
            assert fast.state() == general.state()
        assert fast.served == 1


def test_a_model_may_return_no_outputs() -> None:
    """As one does whose result is an empty list."""
    for kind in ("none", "none for 2"):
        with workers(Batching(), kind=kind) as (fast, general):
            for number, value in enumerate((2, 3, 2)):
                sent = infer([number], [rows_of([value])])
                assert fast.ask(sent) == general.ask(sent)
            assert fast.served == 3


def test_audits_see_the_batches_that_they_would_see() -> None:
    with workers(Batching(8, frozenset({"s"})), share=0.02) as (fast, general):
        assert fast.loop._auditor.every == 5
        looked = []
        for worker in (fast, general):
            observe = worker.loop._auditor.observe
            worker.loop._auditor._budget.earn = lambda seconds, worker=worker: looked.append(worker)  # type: ignore
            assert observe
        for number in range(11):
            sent = infer([number], [rows_of([number])])
            assert fast.ask(sent) == general.ask(sent)
            assert fast.state() == general.state()
        assert looked == [fast, general] * 2
        assert fast.served == 9


def test_a_choice_of_rows_that_was_not_used_is_chosen_again() -> None:
    with workers(Batching(8, frozenset({"s"}))) as (fast, general):
        for worker in (fast, general):
            for _ in range(20):  # batches of 4 have the same throughput, so both sizes are known and explored
                worker.loop.seed_cost(8, 0.008)
                worker.loop.seed_cost(4, 0.003)
        for number in range(0, 80, 8):
            sent = infer(range(number, number + 8), [rows_of([each]) for each in range(8)])
            assert fast.ask(sent) == general.ask(sent)
            assert fast.state() == general.state()


VALUES = st.sampled_from([1.0, 2.0, 3.0, -4.0, *map(float, ERRORS)])
REQUESTS = st.lists(st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=4)


@st.composite
def frames(draw: st.DrawFn) -> tuple[Callable[[int], bytes], bool]:
    """Draw a frame, given the first of its ids, and whether its requests have the same priority."""
    each = [rows_of(values) for values in draw(REQUESTS)]
    kind = draw(st.sampled_from(["rows"] * 5 + ["shapes", "strings", "doubles", "scalar", "cancel"]))
    is_late = draw(st.integers(0, 9)) == 0
    given = {
        "outputs": draw(st.sampled_from([(), (), (), ("y",), ("z",)])),
        "priorities": draw(st.one_of(st.none(), st.just([2, 1, 1, 3][: len(each)]))),
        "deadlines": [time.monotonic() - 1 if is_late and not index else 1e12 for index in range(len(each))],
        "isolated": draw(st.integers(0, 9)) == 0,
    }
    dim: int | None = 0
    if kind == "shapes":
        each, dim = [each[0]] * len(each), None
    elif kind == "strings":
        each = [np.array([[b"a" * int(abs(value)) for value in row] for row in array], object) for array in each]
    elif kind == "doubles":
        each = [array.astype(np.float64) for array in each]
    elif kind == "scalar":
        each, dim = [np.float32(array[0, 0]).reshape(()) for array in each], None

    def made(first: int) -> bytes:
        if kind == "cancel":
            return wire.pack_json(wire.CANCEL, {}, max(first - 1, 0))
        return infer(range(first, first + len(each)), each, dim, **given)

    return made, len(set(given["priorities"] or [1])) == 1


def by_id(answers: list[Any]) -> list[Any]:
    return sorted([answer for answer in answers if answer[0] != "frame"], key=lambda answer: answer[0])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(frames(), min_size=1, max_size=2), min_size=1, max_size=5), st.data())
def test_any_requests_are_answered_alike(
    turns: list[list[tuple[Callable[[int], bytes], bool]]], data: st.DataObject
) -> None:
    max_rows = data.draw(st.sampled_from([0, 2, 8]))
    batching = Batching(max_rows, frozenset({"s"} if max_rows else ()))
    model = {
        "kind": data.draw(st.sampled_from(["plain"] * 5 + list(OUTPUTS))),
        "fits": data.draw(st.sampled_from([2, 1000])),
    }
    with workers(batching, data.draw(st.sampled_from([0.0, 0.0, 0.04])), **model) as (fast, general):
        first = 1
        for turn in turns:
            sent = b""
            for frame, _ in turn:
                sent += frame(first)
                first += 10
            answers, right = fast.ask(sent), general.ask(sent)
            (runs, *state), (right_runs, *right_state) = fast.state(), general.state()
            if not all(have_one_priority for _, have_one_priority in turn):
                # The rows of a batch may be in any order, and so may its results, and the runs after one that failed.
                answers, right = by_id(answers), by_id(right)
            else:
                assert runs == right_runs
            assert answers == right
            assert state == right_state
