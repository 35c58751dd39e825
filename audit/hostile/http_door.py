"""Hostile requests over HTTP/1.1: to the REST port, and to the metrics port."""

import asyncio
import gzip
from collections.abc import Sequence
from contextlib import suppress
from random import Random

from audit.hostile.corpus import Http
from audit.hostile.mutation import TOKENS, mutated_bytes, mutated_json
from audit.hostile.tally import Tally

# How long a request that is not well-formed may stay unanswered: the server may be waiting for the rest of it.
_PATIENCE_S = 0.3
# How long a well-formed one may.
_TIMEOUT_S = 60.0
_MAX_ANSWER = 64 << 20
_METHODS = tuple(b"GET POST PUT DELETE HEAD OPTIONS PATCH CONNECT TRACE get BREW ".split(b" "))
_LINES = (
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: 1, 1",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity",
    b"Expect: 100-continue", b"Connection: close", b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket",
    b"Content-Encoding: gzip", b"Content-Encoding: br", b"Accept-Encoding: gzip;q=nan", b"Accept: application/x-npz",
    b"Content-Type: application/x-npy", b"Content-Type: multipart/form-data", b"Content-Type: image/jpeg",
    b"Inference-Header-Content-Length: 9999", b"Inference-Header-Content-Length: x", b"Host: evil.example",
    b"Origin: https://evil.example", b"Sec-Fetch-Site: cross-site", b"Authorization: Bearer wrong",
    b"Authorization: Basic d3Jvbmc6d3Jvbmc=", b"X-API-Key: wrong", b"X-API-Key: \xff\xfe", b"Cookie: " + b"c" * 9000,
    b"X-Empty:", b": no name", b"no colon", b"A : space", b" folded", b"X: " + b"y" * 70_000, b"\0: zero",
)  # fmt: skip


class HttpDoor:
    """One port. Each task that calls `send` has its own connection."""

    def __init__(self, name: str, address: str, valid: Sequence[Http], tally: Tally, keys: Sequence[str] = ()) -> None:
        """keys: two of three requests have one of them."""
        self._name, self._tally = name, tally
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._valid, self._keys = valid, keys
        self._raw = [each.raw for each in valid]
        self._connections: dict[asyncio.Task[None], tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def send(self, number: int, rng: Random) -> None:
        """Send one request, and count its answer."""
        kind, request = rng.random(), rng.choice(self._valid)
        if self._keys and rng.random() < 0.67:
            line = b"Authorization: Bearer %b" % rng.choice(self._keys).encode()
            request = request._replace(headers=(*request.headers, line))
        if kind < 0.7:
            await self._well_formed(number, rng, request)
            return
        if kind < 0.85:
            data = _broken_head(rng, request)
        elif kind < 0.9:
            data = _chunked(rng, request)
        elif kind < 0.92:
            data = b"".join(rng.choices(self._raw, k=rng.choice((2, 20, 100))))
        else:
            data = mutated_bytes(rng, request.raw, self._raw)
        await self._malformed(number, data)

    async def _well_formed(self, number: int, rng: Random, request: Http) -> None:
        """A request that is HTTP, on a connection that is kept: it must be answered."""
        request = request._replace(body=_changed_body(rng, request), target=_changed_target(rng, request.target))
        if rng.random() < 0.2:
            request = request._replace(method=rng.choice(_METHODS[:7]))
        data = request.raw
        for attempt in (1, 2):
            reader, writer = await self._connection(renew=attempt == 2)
            try:
                writer.write(data)
                async with asyncio.timeout(_TIMEOUT_S):
                    status, body, closes = await _read_answer(reader, request.method)
            except (OSError, EOFError):
                if attempt == 2:
                    self._tally.fail(number, f"{self._name} closed the connection without an answer to {data[:200]!r}")
                    self._tally.http(number, self._name, None, b"", data)
                    await self.close()
                    return
                continue  # the connection was idle for too long, or the earlier answer closed it
            except TimeoutError:
                self._tally.fail(number, f"{self._name} did not answer {data[:200]!r}")
                self._tally.http(number, self._name, None, b"", data)
                await self.close()
                return
            break
        self._tally.http(number, self._name, status, body, data)
        if closes:
            await self.close()

    async def _malformed(self, number: int, data: bytes) -> None:
        """What may not be HTTP, on a connection of its own: it may stay unanswered."""
        status, body = None, b""
        with suppress(OSError, EOFError, TimeoutError, ValueError):
            reader, writer = await asyncio.open_connection(self._host, self._port, limit=_MAX_ANSWER)
            try:
                writer.write(data)
                async with asyncio.timeout(_PATIENCE_S):
                    status, body, _ = await _read_answer(reader, data[:4])
            finally:
                writer.transport.abort()
        self._tally.http(number, f"{self._name}, malformed", status, body, data)

    async def _connection(self, renew: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        task = asyncio.current_task()
        assert task is not None
        if renew:
            await self.close()
        if task not in self._connections:
            async with asyncio.timeout(_TIMEOUT_S):
                self._connections[task] = await asyncio.open_connection(self._host, self._port, limit=_MAX_ANSWER)
        return self._connections[task]

    async def close(self) -> None:
        """Close the connection of this task."""
        task = asyncio.current_task()
        assert task is not None
        if (connection := self._connections.pop(task, None)) is not None:
            connection[1].transport.abort()


async def _read_answer(reader: asyncio.StreamReader, method: bytes) -> tuple[int, bytes, bool]:
    """Return status, body, and whether the server closes the connection. Raises EOFError, OSError, ValueError."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head[9:12])
        if status >= 200:
            break
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    if method == b"HEAD" or status in (204, 304):
        body = b""
    elif b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif lengths:
        body = await reader.readexactly(int(lengths[0][15:]))
    else:
        body = await reader.read(_MAX_ANSWER)
    closes = b"connection: close" in head or head.startswith(b"http/1.0") or not (lengths or b"chunked" in head)
    return status, body, closes


def _changed_body(rng: Random, request: Http) -> bytes:
    zipped = any(b"Content-Encoding: gzip" in line for line in request.headers)
    chance, body = rng.random(), request.body
    if chance < 0.1 or not body:
        return body
    if zipped and chance < 0.6:
        return gzip.compress(mutated_json(rng, gzip.decompress(body)) * rng.choice((1, 1, 3000)), 1)
    if request.is_json and chance < 0.8:
        return mutated_json(rng, body)
    return mutated_bytes(rng, body)


def _changed_target(rng: Random, target: bytes) -> bytes:
    """What is left may be any path, but can be written in a request line."""
    if rng.random() < 0.7:
        return target
    parts = target.split(b"/")
    operation, at = rng.randrange(5), rng.randrange(len(parts))
    if operation == 0:
        parts[at] = b"".join(b"%%%02x" % byte for byte in rng.randbytes(rng.choice((1, 5, 300))))
    elif operation == 1:
        parts.insert(
            at, rng.choice((b"", b".", b"..", b"%2e%2e", b"m", b"versions", b"0", b"-1", b"9" * 30, b"a" * 3000))
        )
    elif operation == 2:
        del parts[at]
    elif operation == 3:
        parts[-1] += rng.choice(
            (b"?", b"?a=b", b"?" + b"q" * 3000, b":predict", b"%00", b";x", b"%", b"%zz", b"\xc3\xa9")
        )
    else:
        parts[at] = parts[at].upper()
    changed = b"/".join(parts)
    return changed if changed.startswith(b"/") else b"/" + changed


def _broken_head(rng: Random, request: Http) -> bytes:
    lines = list(request.headers)
    for _ in range(rng.randint(1, 3)):
        lines.insert(rng.randint(0, len(lines)), rng.choice(_LINES))
    if rng.random() < 0.05:
        lines += [b"X-%d: y" % number for number in range(rng.choice((50, 1000, 20_000)))]
    if rng.random() < 0.3:
        request = request._replace(method=rng.choice(_METHODS))
    if rng.random() < 0.3:
        request = request._replace(target=mutated_bytes(rng, request.target, TOKENS))
    return request._replace(headers=tuple(lines)).raw


def _chunked(rng: Random, request: Http) -> bytes:
    head = b"\r\n".join((b"%b %b HTTP/1.1" % request[:2], b"Host: a", *request.headers, b"Transfer-Encoding: chunked"))
    chunks, body = [], request.body
    while body:
        size = rng.choice((1, 7, 100, 1 << 16))
        extension = rng.choice((b"", b"", b";x=y", b";" + b"e" * 500, b" "))
        chunks.append(b"%x%b\r\n%b\r\n" % (len(body[:size]), extension, body[:size]))
        body = body[size:]
    data = b"".join(chunks) + b"0\r\n" + rng.choice((b"", b"X-Trailer: a\r\n", b"X: " + b"z" * 70_000)) + b"\r\n"
    return head + b"\r\n\r\n" + (data if rng.random() < 0.3 else mutated_bytes(rng, data))
