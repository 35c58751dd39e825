"""A client that behaves. Its answers must stay right, and must come in time, whatever others send."""

import json
import struct
import time
import urllib.request
from collections.abc import Mapping
from threading import Event, Thread

import grpc

from audit.hostile.corpus import NEIGHBOUR
from gateway.generated import open_inference_pb2 as pb

TIMEOUT_S = 10.0
_PAUSE_S = 0.02


class Neighbour(Thread):
    """A thread that sends requests until `stop`.

    requests  how many were sent
    slowest   the longest time that an answer took, in seconds
    stalled   the longest time by which a pause was too long, in seconds: whatever this process or the machine did then
              delayed answers, too
    wrong     a sentence for each answer that was not right
    """

    def __init__(self, rest: str, grpc_address: str, headers: Mapping[str, str]) -> None:
        super().__init__(daemon=True)
        self.requests, self.slowest, self.stalled = 0, 0.0, 0.0
        self.wrong: list[str] = []
        self._rest, self._grpc, self._headers = rest, grpc_address, headers
        self._stop_event = Event()

    def run(self) -> None:
        Thread(target=self._watch, daemon=True).start()
        with grpc.insecure_channel(self._grpc) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            while not self._stop_event.wait(_PAUSE_S):
                began = time.monotonic()
                value = float(self.requests % 1000)
                try:
                    answer = self._by_grpc(infer, value) if self.requests % 2 else self._by_rest(value)
                    if answer != [2 * value] * 4:
                        self.wrong.append(f"the answer to {value} was {answer}")
                except (OSError, grpc.RpcError, ValueError, KeyError, struct.error) as error:
                    self.wrong.append(repr(error)[:300])
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.requests += 1

    def _watch(self) -> None:
        began = time.monotonic()
        while not self._stop_event.wait(_PAUSE_S):
            now = time.monotonic()
            self.stalled = max(self.stalled, now - began - _PAUSE_S)
            began = now

    def stop(self) -> None:
        self._stop_event.set()
        self.join()

    def _by_rest(self, value: float) -> list[float]:
        body = json.dumps({"inputs": [[value] * 4]}).encode()
        request = urllib.request.Request(f"http://{self._rest}/predict/{NEIGHBOUR}", body, dict(self._headers))
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            row: list[float] = json.load(answer)["outputs"]["y"][0]
            return row

    def _by_grpc(self, infer: grpc.UnaryUnaryMultiCallable, value: float) -> list[float]:
        message = pb.ModelInferRequest(model_name=NEIGHBOUR, raw_input_contents=[struct.pack("<4f", *[value] * 4)])
        message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        metadata = [(name.lower(), text) for name, text in self._headers.items()]
        raw = infer(message.SerializeToString(), timeout=TIMEOUT_S, metadata=metadata)
        return list(struct.unpack("<4f", pb.ModelInferResponse.FromString(raw).raw_output_contents[0]))
