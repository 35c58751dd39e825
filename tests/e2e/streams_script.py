"""Run tritonclient's streams, in its environment, against decoupled fake models.

Usage: streams_script.py GRPC. `three` answers a row x three times, with 2x, 2x + 1 and 2x + 2; `three_behind` is a
pipeline that doubles these; `three_chain` answers each y twice, with 2y and 2y + 1; `rows` answers as often as the
input has rows.
"""

import asyncio
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
from tritonclient.utils import InferenceServerException

WAIT_S = 60


def inputs(rows: int = 1) -> list[Any]:
    made = triton_grpc.InferInput("x", [rows, 4], "FP32")
    made.set_data_from_numpy(np.ones((rows, 4), np.float32))
    return [made]


def seen(result: Any) -> tuple[str, float | None, bool]:
    """The id, the first number of y, and whether the answer is final."""
    answer, y = result.get_response(), result.as_numpy("y")
    return answer.id, None if y is None else float(y[0, 0]), answer.parameters["triton_final_response"].bool_param


def check_callbacks(address: str) -> None:
    answers: queue.Queue[tuple[Any, InferenceServerException | None]] = queue.Queue()
    with triton_grpc.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer("three", inputs(), request_id="a", enable_empty_final_response=True)
        found = [answers.get(timeout=WAIT_S) for _ in range(4)]
        assert [error for _, error in found] == [None] * 4
        assert [seen(result) for result, _ in found] == [
            ("a", 2.0, False),
            ("a", 3.0, False),
            ("a", 4.0, False),
            ("a", None, True),
        ]
        client.async_stream_infer("three_behind", inputs(), request_id="p", enable_empty_final_response=True)
        assert [seen(answers.get(timeout=WAIT_S)[0]) for _ in range(4)] == [
            ("p", 4.0, False),
            ("p", 6.0, False),
            ("p", 8.0, False),
            ("p", None, True),
        ]
        client.async_stream_infer("three_chain", inputs(), request_id="q", enable_empty_final_response=True)
        assert [seen(answers.get(timeout=WAIT_S)[0]) for _ in range(7)] == [
            *[("q", value, False) for value in (4.0, 5.0, 6.0, 7.0, 8.0, 9.0)],
            ("q", None, True),
        ]
        client.async_stream_infer("rows", inputs(0), request_id="none", enable_empty_final_response=True)
        assert seen(answers.get(timeout=WAIT_S)[0]) == ("none", None, True)
        client.async_stream_infer("three", inputs(), request_id="b")
        assert [seen(answers.get(timeout=WAIT_S)[0])[1:] for _ in range(3)] == [
            (2.0, False),
            (3.0, False),
            (4.0, False),
        ]
        client.async_stream_infer("plain", inputs(), request_id="c")
        assert seen(answers.get(timeout=WAIT_S)[0]) == ("c", 2.0, True)
        client.stop_stream()
        assert answers.empty()
        assert client.get_model_config("three", as_json=True)["config"]["model_transaction_policy"]["decoupled"]
        try:
            client.infer("three", inputs())
        except InferenceServerException as error:
            assert "UNIMPLEMENTED" in error.status(), error
            assert "doesn't support models with decoupled transaction policy" in error.message(), error
        else:
            raise AssertionError("a unary call to a decoupled model was answered")


async def check_coroutines(address: str) -> None:
    async def requests() -> Any:
        for number in range(20):
            yield {"model_name": "three", "inputs": inputs(), "request_id": str(number)}

    async with triton_grpc_aio.InferenceServerClient(address) as client:
        found: dict[str, list[Any]] = {}
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            name, *rest = seen(result)
            found.setdefault(name, []).append(rest)
        expected = [[2.0, False], [3.0, False], [4.0, False]]
        assert found == {str(number): expected for number in range(20)}, found


check_callbacks(sys.argv[1])
asyncio.run(check_coroutines(sys.argv[1]))
print("all of it worked")
