"""NVIDIA's clients send trace contexts: over REST, over gRPC, and in a stream."""

import queue
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

http, grpc, *parents = sys.argv[1:]
values = np.zeros((1, 4), np.float32)


def inputs(module):
    found = module.InferInput("x", values.shape, "FP32")
    found.set_data_from_numpy(values)
    return [found]


with triton_http.InferenceServerClient(http) as client:
    client.infer("m", inputs(triton_http), headers={"traceparent": parents[0], "x-request-id": "http-1"})
with triton_grpc.InferenceServerClient(grpc) as client:
    client.infer("m", inputs(triton_grpc), headers={"traceparent": parents[1], "tracestate": "a=1"}, request_id="i")
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers={"traceparent": parents[2]})
    client.async_stream_infer("m", inputs(triton_grpc), request_id="s")
    _, error = answers.get(timeout=60)
    assert error is None, error
    client.stop_stream()
print("all of it worked")
