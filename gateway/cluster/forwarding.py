"""Forwards HTTP requests to a gateway on this machine, and its answers back, unchanged and as they come."""

import contextlib
import re
from collections.abc import AsyncIterator

import aiohttp
import yarl
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

# Those of one connection (RFC 9110, 7.6.1): each side of a proxy has its own.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_QUEUED = re.compile(rb"^modelport_requests_queued\{.*\} (\S+)$", re.MULTILINE)
# How long the gateway may take to answer a question about itself.
_QUESTION = aiohttp.ClientTimeout(total=10)


class Forwarder:
    """One pool of connections to the gateway at `address` (HOST:PORT). Create it in the event loop that uses it."""

    def __init__(self, address: str) -> None:
        self._origin = f"http://{address}"
        self._session = aiohttp.ClientSession(
            # Limits are the gateway's, and so are those who may wait.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def forward(self, request: Request) -> Response:
        """Send the request on, and return the answer once its head is here. Raises aiohttp.ClientError."""
        scope = request.scope
        raw = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").removeprefix(scope.get("root_path", ""))
        query = scope["query_string"].decode("latin-1")
        url = yarl.URL(f"{self._origin}{path}" + (f"?{query}" if query else ""), encoded=True)
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name not in _HOP_BY_HOP
        ]
        names = {name for name, _ in scope["headers"]}
        body = request.stream() if names & {b"content-length", b"transfer-encoding"} else None
        answer = await self._session.request(request.method, url, headers=headers, data=body, allow_redirects=False)
        response = StreamingResponse(_chunks(answer), status_code=answer.status)
        response.raw_headers = [(name, value) for name, value in answer.raw_headers if name.lower() not in _HOP_BY_HOP]
        return response

    async def ready(self) -> bool:
        """Whether the gateway is ready. Raises aiohttp.ClientError, and TimeoutError if it does not answer in time."""
        async with self._session.get(f"{self._origin}/v2/health/ready", timeout=_QUESTION) as answer:
            return bool(answer.status == 200)

    async def queued(self) -> float:
        """Return how many requests wait for a worker. Raises as `ready` does."""
        async with self._session.get(f"{self._origin}/metrics", timeout=_QUESTION) as answer:
            answer.raise_for_status()
            return sum(map(float, _QUEUED.findall(await answer.read())))

    async def close(self) -> None:
        await self._session.close()


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    # If the client leaves, the generator is closed, and with it the connection, by which the gateway learns of it.
    with contextlib.closing(answer):
        async for chunk in answer.content.iter_any():
            yield chunk
