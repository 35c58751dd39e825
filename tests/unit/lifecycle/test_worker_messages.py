"""What a hostile worker sends to the supervisor and to fronts does not become more than the end of that worker."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.domain.table import WorkerAddress
from gateway.engine.client import WorkerClient
from gateway.lifecycle import worker_process
from gateway.lifecycle.launch import Launch
from gateway.lifecycle.worker_messages import read_message
from gateway.lifecycle.worker_process import WorkerProcess
from gateway.process.folders import remove_folder
from runtimes import result_frames, status_page, wire
from runtimes.contract import Signature, TensorSpec
from runtimes.control import Failed, Learned, Load, Ready
from runtimes.result_frames import ResultFrame
from runtimes.status_page import StatusPage
from runtimes.tensors import Tensor
from runtimes.wire import Frame

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "", None),), {"z": "it is a list"})
READY = Ready({"default": SIGNATURE}, 8, 16, "", "")


def frame(kind: int, body: Any) -> Frame:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Frame(kind, 0, 0, memoryview(text))


def test_messages_are_read_and_their_texts_are_one_line() -> None:
    assert read_message(frame(wire.READY, READY.to_json())) == READY
    assert read_message(frame(wire.FAILED, {"reason": "no"})) == Failed("no")
    forged = "no\r\n2026-01-01 INFO gateway: serving\u2028\x1b[2J\x00"
    line = "no 2026-01-01 INFO gateway: serving ?[2J?"
    assert read_message(frame(wire.FAILED, {"reason": forged})) == Failed(line)
    ready = read_message(frame(wire.READY, READY._replace(batching_off=forged, note=forged).to_json()))
    assert ready == READY._replace(batching_off=line, note=line)
    learned = Learned("default", SIGNATURE)
    assert read_message(frame(wire.LEARNED, learned.to_json())) == learned


def signature(**fields: Any) -> dict[str, Any]:
    return {"signatures": {"default": list((SIGNATURE._asdict() | fields).values())}}


def spec(name: Any = "x", datatype: Any = "FP32", shape: Any = (1,), kind: str = "inputs") -> dict[str, Any]:
    return signature(**{kind: [[name, datatype, shape]]})


def test_signatures_that_workers_have_are_read() -> None:
    changes = (spec(), spec(kind="unbatched"), signature(json=["z"]), signature(needs={"y": ["x"]}, optional=["x"]))
    for each in changes:
        read_message(frame(wire.READY, {**READY.to_json(), **each}))


@pytest.mark.parametrize(
    "changes",
    [
        {"window": "2"}, {"window": -1}, {"max_batch_size": None}, {"batching_off": 1}, {"note": []}, {"more": 1},
        spec(name=1), spec(datatype="EVIL"), spec(datatype=[]), spec(shape=[-2]), spec(shape=[1.5]),
        spec(shape=[1 << 63]), spec(shape="12"), spec(shape=[-2], kind="outputs"), spec(name=1, kind="unbatched"),
        signature(refused={"y": 1}), signature(refused=[["y", "no"]]), signature(refused=None), signature(optional=[1]),
        signature(optional=None), signature(needs={"y": [1]}), signature(needs=[]), signature(needs={"y": 1}),
        signature(json=["y"]), signature(json=[["z"]]), signature(json=None), {"signatures": {"default": []}},
        {"signatures": []}, {"signatures": {"default": None}},
    ],
)  # fmt: skip
def test_facts_that_no_worker_has_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(wire.MALFORMED):
        read_message(frame(wire.READY, {**READY.to_json(), **changes}))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (wire.READY, b"\xff"),
        (wire.READY, b"[" * 200_000),
        (wire.READY, {}),
        (wire.FAILED, {"reason": 5}),
        (wire.LEARNED, {"name": "default"}),
        (48, {"verb": "unload", "arguments": {}}),  # a call, which fronts may make
    ],
)
def test_messages_that_no_worker_sends_are_refused(kind: int, body: Any) -> None:
    with pytest.raises(wire.MALFORMED):
        read_message(frame(kind, body))


async def passes(loaded: Ready) -> str:
    return ""


def worker() -> WorkerProcess:
    launch = Launch("m", "1", Path(sys.executable), {}, Load("runtime", "artifact"), 1.0, 1.0)
    return WorkerProcess(launch, Path(), lambda: None, passes)


def test_a_worker_that_sends_something_else_is_ended() -> None:
    one = worker()
    one._on_frame(frame(wire.READY, {}))
    assert one._killed
    assert "protocol" in one.describe_end()


def test_a_worker_that_sends_messages_without_end_is_ended() -> None:
    async def main() -> WorkerProcess:
        one = worker()
        for number in range(worker_process._MAX_FRAMES + 1):
            one._on_frame(frame(wire.LEARNED, Learned(str(number), SIGNATURE).to_json()))
        return one

    one = asyncio.run(main())
    assert one._killed
    assert len(one.learned) == worker_process._MAX_FRAMES


def test_a_worker_that_a_front_has_lost_is_ended(tmp_path: Path) -> None:
    one = worker()
    status_page.create(str(tmp_path / "page"))
    one._status = StatusPage(str(tmp_path / "page"))
    one.enforce_limits()
    one._status.set_invalid()
    one.enforce_limits()
    assert not one._killed, "it may just be ending by itself"
    one.enforce_limits()
    assert one._killed


class Transport:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


def client(folder: Path, max_response_bytes: int = 1 << 20) -> tuple[WorkerClient, Transport, list[Any], StatusPage]:
    """A client of a hostile worker, its transport, what it passed on, and the page."""
    path, passed = str(folder / "page"), list[Any]()
    status_page.create(path)
    made = WorkerClient(
        WorkerAddress(1, "socket", path, 1),
        None,
        lambda client, results: passed.append(results),
        lambda client, number, error: passed.append(error),
        lambda client, running: passed.append(running),
        max_response_bytes=max_response_bytes,
    )
    made._transport = cast(Any, transport := Transport())
    return made, transport, passed, StatusPage(path)


def result(*tensors: Tensor) -> bytes:
    return b"".join(bytes(part) for part in result_frames.pack_result([(1, ResultFrame(1, 2, 3, 4, 1, list(tensors)))]))


VALID = result(Tensor("y", "FP32", (4,), b"x" * 16))
LIES = {
    "another protocol": b"x" * 100,
    "no result": b"".join(map(bytes, wire.pack(wire.RESULT, 1, [b"\xff" * 400]))),
    "half a result": wire.HEADER.pack(len(VALID) - 32, wire.VERSION, wire.RESULT, wire.FINAL, 0, 1) + VALID[24:-8],
    "too few bytes for its shape": result(Tensor("y", "FP32", (4,), b"1234")),
    "a negative shape": result(Tensor("y", "FP32", (-3, 4), b"1234")),
    "a shape that overflows": result(Tensor("y", "FP32", (1 << 60, 1 << 60), b"1234")),
    "an error that is not JSON": b"".join(map(bytes, wire.pack(wire.ERROR, 1, [b"{"]))),
    "an error without a kind": wire.pack_json(wire.ERROR, {"message": ""}, 1),
    "an error with another kind of text": wire.pack_json(wire.ERROR, {"kind": 3, "message": {}}, 1),
    "a frame of another kind": wire.pack_json(77, {}, 1),
    "an endless frame": wire.HEADER.pack(1 << 50, wire.VERSION, wire.RESULT, 0, 0, 1),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_front_ends_its_connection_to_a_worker_that_sends(lie: str, tmp_path: Path) -> None:
    async def main() -> None:
        made, transport, passed, page = client(tmp_path)
        made.data_received(VALID)
        made.data_received(LIES[lie])
        assert transport.aborted
        assert len(passed) == 1
        made.connection_lost(None)
        assert passed[1:] == [frozenset()]
        assert page.is_invalid()

    asyncio.run(main())


def test_a_front_ends_its_connection_to_a_worker_that_does_not_wait_for_clients(tmp_path: Path) -> None:
    async def main() -> None:
        made, transport, _, _ = client(tmp_path)
        written: list[bytes] = []
        made._write = lambda buffers: written.append(b"".join(map(bytes, buffers)))  # type: ignore[method-assign]
        for _ in range(wire.MAX_UNREAD_ANSWERS):
            assert made.count_unread(7)
        made.acknowledge(7)
        made.acknowledge(8)
        assert written == [b"".join(map(bytes, wire.pack(wire.ACK, 7)))]
        assert made.count_unread(7)
        assert not transport.aborted
        assert not made.count_unread(7)
        assert transport.aborted

    asyncio.run(main())


def test_a_page_that_names_more_requests_than_it_has_room_for_keeps_no_answer_from_them(tmp_path: Path) -> None:
    async def main() -> None:
        made, _, passed, page = client(tmp_path)
        page.set_busy([7], 1.0)
        page._map[8:12] = b"\xff" * 4
        made.connection_lost(None)
        [running] = passed
        assert 7 in running

    asyncio.run(main())


def test_a_folder_is_deleted_whatever_a_model_has_put_there(tmp_path: Path) -> None:
    top, kept = tmp_path / "top", tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (top / "folder").mkdir(parents=True)
    (top / "folder" / "link").symlink_to(kept)
    (top / "dangling").symlink_to(tmp_path / "none")
    (top / "locked").mkdir(mode=0)
    os.mkfifo(top / "folder" / "pipe")
    opened = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # deeper than Python recurses, and than a path may be
        os.mkdir("deep", dir_fd=opened)
        inner = os.open("deep", os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = inner
    os.close(opened)
    remove_folder(top)
    assert sorted(os.listdir(tmp_path)) == ["kept"]
    assert (kept / "file").read_text() == "x"
