"""A client process that repeats one gRPC message, with a fixed number in flight.

    python -m benchmarks.grpc_client PORT MESSAGE_FILE IN_FLIGHT SECONDS

Prints "ready" after one good answer, waits for a line, and then prints how many answers arrived in SECONDS.
"""

import sys
import threading
import time
from pathlib import Path

import grpc

from benchmarks.requests import METHOD
from gateway.generated import open_inference_pb2 as pb

_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def main(port: str, message: bytes, in_flight: int, seconds: float) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}", _UNLIMITED) as channel:
        ask = channel.unary_unary(METHOD)
        assert pb.ModelInferResponse.FromString(ask(message)).raw_output_contents
        print("ready", flush=True)
        sys.stdin.readline()
        room = threading.Semaphore(in_flight)
        answered = 0
        failed: list[BaseException] = []

        def done(call: grpc.Future) -> None:
            nonlocal answered
            if error := call.exception():
                failed.append(error)
            elif time.perf_counter() < ends:
                answered += 1  # all callbacks of a channel run on one thread
            room.release()

        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends and not failed:
            room.acquire()
            ask.future(message).add_done_callback(done)
        for _ in range(in_flight):
            room.acquire()
        if failed:
            raise failed[0]
        print(answered, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_bytes(), int(sys.argv[3]), float(sys.argv[4]))
