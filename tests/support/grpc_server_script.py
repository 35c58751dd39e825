"""A gRPC server in its own process, over a fake engine, with a limit of 1 MiB.

Started as `python -m tests.support.grpc_server_script KIND`. It prints its port, and ends when its standard input does.
"""

import asyncio
import sys
from typing import Any

import uvloop

from gateway.engine.fake import FakeEngine
from gateway.front.base.limits import Limits
from gateway.front.grpc.server import build_server


async def main(kind: Any) -> None:
    server = build_server(FakeEngine([], lambda request: []), Limits(binary_bytes=1 << 20), kind)
    print(server.add_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
