"""A grpc.aio server that only echoes: no message is parsed, no model runs.

python -m benchmarks.references.grpc_echo
"""

import asyncio

import grpc
import uvloop


async def main() -> None:
    async def echo(message: bytes, context: object) -> bytes:
        return message

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(echo)
    service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"port {port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
