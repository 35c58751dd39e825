"""Runs the requests of a batch as a list, for models with `takes_requests`."""

import time
from typing import TYPE_CHECKING, Dict, List

from runtimes.context import unpack_context
from runtimes.contract import DeviceLost, InvalidInput, Request
from runtimes.tensors import from_array, to_array
from runtimes.worker.pending import Batch, Pending
from runtimes.worker.results import Outcome, one_result

if TYPE_CHECKING:
    from runtimes.worker.execute import Executor


def request_of(pending: Pending) -> Request:
    """Return a request as its model gets it. Raises InvalidInput."""
    frame = pending.frame
    try:
        inputs = {tensor.name: to_array(tensor) for tensor in frame.inputs}
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    return Request(inputs, frame.outputs, *unpack_context(frame.context), frame.deadline)


def run_requests(executor: "Executor", batch: Batch, began: float) -> List[Outcome]:
    """Return one outcome per request. Raises what the model raises, if that is not about one request."""
    outcomes: Dict[int, Outcome] = {}
    requests, indices = [], []
    for index, pending in enumerate(batch):
        try:
            requests.append(request_of(pending))
            indices.append(index)
        except InvalidInput as error:
            outcomes[index] = executor.failure(error)
    gathered = time.monotonic()
    answers = executor.model.infer_requests(requests, batch.signature) if requests else []
    inferred = time.monotonic()
    if len(answers) != len(requests):
        raise ValueError("the model gave %d answers to %d requests" % (len(answers), len(requests)))
    executor.note_finished(inferred)
    for index, request, answer in zip(indices, requests, answers):
        try:
            if isinstance(answer, Exception):
                raise answer
            missing = [name for name in request.outputs if name not in answer]
            if missing:
                raise InvalidInput("the model has no output '%s'; it has %s" % (missing[0], ", ".join(sorted(answer))))
            tensors = [from_array(name, array) for name, array in answer.items()]
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - frameworks return anything
            outcomes[index] = executor.failure(error).after((inferred - gathered) / len(requests))
            continue
        if not index:
            executor.last_run = (batch.signature, request.inputs, answer)
        queue_s, rows = began - batch[index].arrived, batch.rows or len(batch)
        result = one_result(tensors, queue_s, gathered - began, inferred - gathered, rows)
        outcomes[index] = executor.limited(result, batch[index].rows or 1)
    return [outcomes[index] for index in range(len(batch))]
