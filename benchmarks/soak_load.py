"""A mixed load: every dialect, small and large requests, valid and invalid ones, and clients that disconnect."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
import numpy as np

from benchmarks.requests import METHOD
from gateway.generated import open_inference_pb2 as pb

WIDTH = 64
_LARGE_ROWS = 1024  # 256 KiB
# A client opens a new connection after this many requests.
_REQUESTS_PER_CONNECTION = 40


@dataclass
class Target:
    """The gateway's ports, and the models that clients may use now; a model is removed while it is unloaded."""

    http: int
    grpc: int
    models: list[str]


@dataclass
class Tally:
    """Counts outcomes by (kind of request, outcome); `unexpected` counts the wrong ones again."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, kind: str, expected: str, outcome: str) -> None:
        self.outcomes[kind, outcome] += 1
        if outcome != expected:
            self.unexpected[kind, outcome] += 1


class Client:
    """Repeatedly draws a kind of request, sends one, and waits for the answer."""

    def __init__(self, target: Target, tally: Tally, seed: int) -> None:
        self._target, self._tally = target, tally
        self._random = random.Random(seed)
        self._images = np.random.default_rng(seed).uniform(0, 16, (_LARGE_ROWS, WIDTH)).astype(np.float32)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._channel: grpc.aio.Channel | None = None
        self._left = 0
        # kind → its weight in the draw, the expected outcome, and the function that sends it.
        self._kinds: dict[str, tuple[int, str, Callable[[str], Awaitable[str]]]] = {
            "predict JSON": (25, "200", lambda model: self._post(f"/predict/{model}", _json(self._rows(1)))),
            "v2 JSON": (20, "200", lambda model: self._post(_v2(model), _v2_json(self._rows(3)))),
            "v2 binary": (20, "200", lambda model: self._binary(model, self._rows(2))),
            "gRPC": (20, "OK", lambda model: self._call(model, self._rows(1))),
            "large binary": (2, "200", lambda model: self._binary(model, self._images)),
            "large gRPC": (1, "OK", lambda model: self._call(model, self._images)),
            "no JSON": (2, "400", lambda model: self._post(f"/predict/{model}", b'{"inputs": [[1, 2')),
            "wrong shape": (2, "400", lambda model: self._post(f"/predict/{model}", _json(self._rows(1)[:, :7]))),
            "no such model": (1, "404", lambda _: self._post("/predict/nobody", _json(self._rows(1)))),
            "wrong gRPC": (1, "INVALID_ARGUMENT", lambda model: self._call(model, self._rows(1)[:, :7])),
            "goes away, REST": (4, "gone", self._go_away),
            "goes away, gRPC": (2, "gone", self._give_up),
        }

    async def run(self, pause_s: float, stop: asyncio.Event) -> None:
        """Send requests until `stop` is set; cancelling the task would look like the end of a call.

        pause_s: the mean pause between requests.
        """
        names = list(self._kinds)
        weights = [self._kinds[name][0] for name in names]
        try:
            while not stop.is_set():
                await asyncio.sleep(self._random.expovariate(1 / pause_s))
                (kind,) = self._random.choices(names, weights)
                _, expected, send = self._kinds[kind]
                try:
                    outcome = await send(self._random.choice(self._target.models))
                except grpc.aio.AioRpcError as error:
                    outcome = error.code().name
                except (OSError, asyncio.IncompleteReadError) as error:
                    outcome = type(error).__name__
                    self._leave()
                self._tally.add(kind, expected, outcome)
        finally:
            self._leave()
            if self._channel is not None:
                await self._channel.close()

    def _rows(self, count: int) -> np.ndarray:
        start = self._random.randrange(_LARGE_ROWS - count)
        return self._images[start : start + count]

    async def _post(self, path: str, body: bytes, headers: str = "content-type: application/json\r\n") -> str:
        if self._left <= 0:
            self._leave()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._target.http)
            self._left = _REQUESTS_PER_CONNECTION
        self._left -= 1
        reader, writer = self._streams
        writer.write(_head(path, body, headers) + body)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
        if b"connection: close" in head.lower():
            self._leave()
        return head[9:12].decode()

    async def _binary(self, model: str, rows: np.ndarray) -> str:
        size = {"binary_data_size": rows.nbytes}
        tensor = {"name": "image", "shape": rows.shape, "datatype": "FP32", "parameters": size}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        return await self._post(_v2(model), head + rows.tobytes(), f"inference-header-content-length: {len(head)}\r\n")

    def _unary(self) -> grpc.aio.UnaryUnaryMultiCallable:
        if self._channel is None:
            options = [("grpc.use_local_subchannel_pool", 1)]  # otherwise all channels share one connection
            self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{self._target.grpc}", options)
        return self._channel.unary_unary(METHOD)

    async def _call(self, model: str, rows: np.ndarray) -> str:
        await self._unary()(_message(model, rows), timeout=60)
        return "OK"

    async def _go_away(self, model: str) -> str:
        """Send a whole request, part of one, or nothing, and disconnect."""
        body = _json(self._rows(1)) if self._random.random() < 0.5 else _json(self._images[:256])
        sent = (_head(f"/predict/{model}", body, "") + body)[
            : self._random.choice((0, 20, len(body) // 2, len(body) + 999))
        ]
        _, writer = await asyncio.open_connection("127.0.0.1", self._target.http)
        writer.write(sent)
        with contextlib.suppress(OSError):
            await asyncio.wait_for(writer.drain(), 1)
        writer.transport.abort()
        return "gone"

    async def _give_up(self, model: str) -> str:
        call = self._unary()(_message(model, self._images if self._random.random() < 0.3 else self._rows(1)))
        await asyncio.sleep(self._random.random() * 0.003)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        return "gone"

    def _leave(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _v2(model: str) -> str:
    return f"/v2/models/{model}/infer"


def _head(path: str, body: bytes, headers: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n".encode()


def _json(rows: np.ndarray) -> bytes:
    return json.dumps({"inputs": rows.tolist()}).encode()


def _v2_json(rows: np.ndarray) -> bytes:
    tensor = {"name": "image", "shape": rows.shape, "datatype": "FP32", "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def _message(model: str, rows: np.ndarray) -> bytes:
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[rows.tobytes()])
    message.inputs.add(name="image", datatype="FP32", shape=rows.shape)
    return message.SerializeToString()
