"""Sends requests without a version by Triton's clients, and prints which versions answered, as JSON."""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

grpc_url, http_url, model = sys.argv[1:4]


def inputs(module):
    tensor = module.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 4), np.float32))
    return [tensor]


by_user = {}
found = {"unary": [], "stream": [], "http": []}
with grpcclient.InferenceServerClient(grpc_url) as client:
    for _ in range(40):
        found["unary"].append(client.infer(model, inputs(grpcclient)).get_response().model_version)
    for user in map(str, range(10)):
        by_user[user] = [
            client.infer(model, inputs(grpcclient), headers={"x-user": user}).get_response().model_version
            for _ in range(4)
        ]
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for _ in range(40):
        client.async_stream_infer(model, inputs(grpcclient))
    for _ in range(40):
        result, error = answers.get(timeout=60)
        assert error is None, error
        found["stream"].append(result.get_response().model_version)
    client.stop_stream()
    for user in map(str, range(10)):
        client.start_stream(lambda result, error: answers.put((result, error)), headers={"x-user": user})
        client.async_stream_infer(model, inputs(grpcclient))
        by_user[user].append(answers.get(timeout=60)[0].get_response().model_version)
        client.stop_stream()
with httpclient.InferenceServerClient(http_url) as client:
    for _ in range(40):
        found["http"].append(client.infer(model, inputs(httpclient)).get_response()["model_version"])
    for user in map(str, range(10)):
        answer = client.infer(model, inputs(httpclient), headers={"X-User": user})
        by_user[user].append(answer.get_response()["model_version"])
print(json.dumps({**found, "by_user": by_user}))
