"""Runs in tritonclient's own environment: `PYTHON sequences_script.py HTTP GRPC`.

The models are those of test_sequences.py. A sequence's requests are sent at once over a stream, without waiting.
"""

import asyncio
import queue
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from tritonclient.utils import InferenceServerException

HTTP, GRPC = sys.argv[1:3]
STEPS = 6


def inputs(module, value):
    tensor = module.InferInput("INPUT", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    return [tensor]


def flags(sequence, step):
    return {"sequence_id": sequence, "sequence_start": step == 0, "sequence_end": step == STEPS - 1}


def total(sequence, step):
    return sum(range(step + 1)) + (int(sequence) if step == STEPS - 1 else 0)


def over_unary(module, address, sequence):
    client = module.InferenceServerClient(address)
    for step in range(STEPS):
        answer = client.infer("sum", inputs(module, step), **flags(sequence, step))
        assert answer.as_numpy("OUTPUT").tolist() == [[total(sequence, step)]], (sequence, step)
    try:
        client.infer("sum", inputs(module, 1), sequence_id=sequence)
        raise AssertionError("an error was expected")
    except InferenceServerException as error:
        assert "must specify the START flag" in error.message(), error


def over_stream(sequences):
    answers = queue.Queue()
    with over_grpc.InferenceServerClient(GRPC) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for step in range(STEPS):
            for sequence in sequences:
                client.async_stream_infer(
                    "sum", inputs(over_grpc, step), request_id=f"{sequence!r} {step}", **flags(sequence, step)
                )
        found = {}
        for _ in range(STEPS * len(sequences)):
            result, error = answers.get(timeout=60)
            assert error is None, error
            found[result.get_response().id] = result.as_numpy("OUTPUT").item()
        client.stop_stream()
    assert found == {f"{each!r} {step}": total(each, step) for each in sequences for step in range(STEPS)}


async def over_aio(sequence):
    async with over_http_aio.InferenceServerClient(HTTP) as http, over_grpc_aio.InferenceServerClient(GRPC) as grpc:
        for step in range(STEPS):  # in turns over both
            module, client = ((over_http_aio, http), (over_grpc_aio, grpc))[step % 2]
            answer = await client.infer("sum", inputs(module, step), **flags(sequence, step))
            assert answer.as_numpy("OUTPUT").item() == total(sequence, step)


for sequence in (901, "902"):
    over_unary(over_http, HTTP, sequence)
    over_unary(over_grpc, GRPC, sequence)
over_stream([903, "903", *range(910, 930)])
asyncio.run(over_aio("904"))
print("all of it worked")
