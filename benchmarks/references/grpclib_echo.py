"""A grpclib server that only echoes: HTTP/2 in Python, TLS by the event loop.

python -m benchmarks.references.grpclib_echo CERT KEY

It needs grpclib and uvloop, and nothing of this project.
"""

import asyncio
import ssl
import sys
from typing import Any

import uvloop
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server


class Bytes(CodecBase):
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Echo:
    def __mapping__(self) -> dict[str, Handler]:
        handler = Handler(self._infer, Cardinality.UNARY_UNARY, bytes, bytes)
        return {"/inference.GRPCInferenceService/ModelInfer": handler}

    async def _infer(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())


async def main(cert: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    server = Server([Echo()], codec=Bytes())
    await server.start("127.0.0.1", 0, ssl=context)
    print(f"port {server._server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
