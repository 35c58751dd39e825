"""Hostile requests over gRPC: messages that are wrong in valid calls, and connections that are no valid HTTP/2."""

import asyncio
import struct
from collections.abc import Sequence
from contextlib import suppress
from random import Random

import grpc
import grpc.aio
from hpack import Encoder

from audit.hostile.corpus import Call, grpc_calls, stream_calls
from audit.hostile.mutation import mutated_bytes, mutated_message
from audit.hostile.tally import Tally

_TIMEOUT_S = 60.0
_PATIENCE_S = 0.3
_METADATA = (
    ("authorization", "Bearer wrong"), ("authorization", "Basic d3Jvbmc6d3Jvbmc="), ("authorization", ""),
    ("x-api-key", "wrong"), ("x-key", "v" * 3000), ("x-bin", b"\0\xff"), ("te", "trailers"), ("grpc-timeout", "1n"),
    ("priority", "9"), ("x-api-key", ""),
)  # fmt: skip
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class GrpcDoor:
    def __init__(self, address: str, tally: Tally, keys: Sequence[str] = (), frames: bool = True) -> None:
        """keys: two of three calls have one of them. frames: whether to send connections that are no valid HTTP/2."""
        self._frames_too = frames
        self._address, self._tally, self._keys = address, tally, keys
        # Not shared with other channels of this process, so that they are not disturbed.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(address, options)
        self._unary, self._streams = grpc_calls(), stream_calls()
        self._frames = [_frames(call) for call in self._unary]

    async def send(self, number: int, rng: Random) -> None:
        """Send one request, and count its answer."""
        kind = rng.random()
        metadata = tuple(rng.sample(_METADATA, rng.choice((0, 0, 1, 2))))
        if self._keys and rng.random() < 0.67:
            metadata = (*metadata, ("authorization", f"Bearer {rng.choice(self._keys)}"))
        if kind < 0.75:
            call = rng.choice(self._unary)
            path = call.path if rng.random() < 0.97 else call.path + rng.choice(("x", "/x", "%00"))
            unary = self._channel.unary_unary(path)(_message(rng, call), timeout=_TIMEOUT_S, metadata=metadata)
            await self._count(number, "gRPC", unary)
        elif kind < 0.85 or not self._frames_too:
            call = rng.choice(self._streams)
            messages = [_message(rng, call) for _ in range(rng.choice((0, 1, 3, 30)))]
            stream = self._channel.stream_stream(call.path)(iter(messages), timeout=_TIMEOUT_S, metadata=metadata)
            await self._count(number, "gRPC streams", _drained(stream))
        else:
            await self._malformed(mutated_bytes(rng, rng.choice(self._frames), self._frames))

    async def close(self) -> None:
        await self._channel.close()

    async def _count(self, number: int, door: str, call: object) -> None:
        try:
            await call  # type: ignore[misc]
        except grpc.aio.AioRpcError as error:
            self._tally.grpc(number, door, error.code().name, error.details() or "")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._tally.grpc(number, door, "CANCELLED", "")  # by the server
        else:
            self._tally.grpc(number, door, "OK", "")

    async def _malformed(self, data: bytes) -> None:
        host, _, port = self._address.rpartition(":")
        outcome, received = "none", b""
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(data)
                async with asyncio.timeout(_PATIENCE_S):
                    while part := await reader.read(1 << 16):
                        received += part
                outcome = "closed"
            finally:
                writer.transport.abort()
        if outcome == "none" and len(received) > 60:  # more than settings
            outcome = "answered"
        self._tally.outcomes["HTTP/2, malformed", outcome] += 1


async def _drained(stream: object) -> None:
    async for _ in stream:  # type: ignore[attr-defined]
        pass


def _message(rng: Random, call: Call) -> bytes:
    if rng.random() < 0.6:
        return mutated_message(rng, call.message)
    valid: bytes = call.message.SerializeToString()
    return valid if rng.random() < 0.2 else mutated_bytes(rng, valid)


def _frames(call: Call) -> bytes:
    """Return a valid connection with one call."""
    headers = [
        (":method", "POST"), (":scheme", "http"), (":path", call.path), (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ]  # fmt: skip
    message = call.message.SerializeToString()
    body = struct.pack(">BI", 0, len(message)) + message
    frames = [(4, 0, 0, b""), (1, 4, 1, Encoder().encode(headers)), (0, 1, 1, body), (8, 0, 0, b"\0\1\0\0")]
    frames += [(6, 0, 0, bytes(8)), (3, 0, 1, b"\0\0\0\x08")]
    return _PREFACE + b"".join(
        struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload
        for kind, flags, stream, payload in frames
    )
