"""Requests of all kinds, pipelined and split at random, get the right answers in order."""

import asyncio
import json
import random
from typing import Any, NamedTuple

import numpy as np
import pytest

from gateway.engine.fake import FakeEngine
from tests.support.front_server import LIMITS, WAIT_S, answer, models
from tests.unit.front.http.test_limits import with_server

PIECES = (1, 3, 50, 200, 1000, 5000, 70_000, 300_000)


class Sent(NamedTuple):
    """A request `raw`, and the status and outputs of its answer: as bytes, or None for any."""

    raw: bytes
    status: int = 200
    outputs: Any = None


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: here", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def plain(chance: random.Random) -> Sent:
    values = [float(chance.randint(0, 9)) for _ in range(3)]
    return Sent(post("/predict/doubler", json.dumps({"inputs": [values]}).encode()), outputs=[values])


def chunked(chance: random.Random) -> Sent:
    sent = plain(chance)
    body = sent.raw.partition(b"\r\n\r\n")[2]
    at = chance.randint(1, len(body) - 1)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:at], body[at:], b""))
    return sent._replace(
        raw=b"POST /predict/doubler HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    )


def binary(chance: random.Random) -> Sent:
    count = chance.choice([chance.randint(1, 5), chance.randint(15_000, 40_000)])
    array = np.random.default_rng(chance.randint(0, 1000)).random((1, count), np.float32)
    tensor = {
        "name": "x", "shape": array.shape, "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes},
    }  # fmt: skip
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = f"inference-header-content-length: {len(text)}"
    return Sent(post("/v2/models/echo_FP32/infer", text + array.tobytes(), length), outputs=array.tobytes())


def cold(chance: random.Random) -> Sent:
    return Sent(b"GET /v2/models/doubler/ready HTTP/1.1\r\nhost: here\r\n\r\n")


def wrong(chance: random.Random) -> Sent:
    return chance.choice([Sent(post("/predict/doubler", b"{]"), 400), Sent(post("/predict/nobody", b"{}"), 404)])


async def talk(port: int, seed: int) -> int:
    chance = random.Random(seed)
    kinds = [plain, chunked, binary, cold, wrong]
    every = [chance.choice(kinds)(chance) for _ in range(chance.randint(1, 25))]
    stream = b"".join(sent.raw for sent in every)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        at = 0
        while at < len(stream):
            size = chance.choice(PIECES)
            writer.write(stream[at : at + size])
            at += size
            await writer.drain()

    sending = asyncio.create_task(send())
    for sent in every:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await reader.readexactly(int(headers["content-length"]))
        assert int(first.split()[1]) == sent.status, (sent.raw[:200], body[:200])
        if isinstance(sent.outputs, bytes):
            assert body[int(headers["inference-header-content-length"]) :] == sent.outputs
        elif sent.outputs is not None:
            assert json.loads(body)["outputs"]["y"] == sent.outputs
    await sending
    writer.close()
    return len(every)


@pytest.mark.parametrize("seed", range(5))
def test_answers_are_in_order_for_any_pieces(seed: int) -> None:
    engine = FakeEngine(models(), answer)

    async def talk_all(port: int) -> bytes:
        counts = await asyncio.gather(*[talk(port, 100 * seed + number) for number in range(10)])
        assert sum(counts) > 50
        return b""

    async def main() -> None:
        async with asyncio.timeout(WAIT_S):
            await with_server(engine, LIMITS, talk_all)

    asyncio.run(main())
    assert engine.reserved_bytes == 0
