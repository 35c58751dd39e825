"""How a request to a pipeline ends: with the results of its steps, or with the error of one."""

import logging

from gateway.engine.pipeline_plan import Plan
from gateway.errors import Internal, ModelportError, NotFound, Unavailable, prefixed
from runtimes.layouts import TensorGroup
from runtimes.result_frames import ResultGroup

log = logging.getLogger(__name__)

NO_OUTPUTS = TensorGroup(("", (), ()), (0,), memoryview(b""), 0)


def result_of(rows: int, compute_ns: tuple[int, int, int]) -> ResultGroup:
    """Return the results of a pipeline without its outputs. As in Triton, its times are the sums of its steps'."""
    return ResultGroup((0,), (0,), *compute_ns, rows, NO_OUTPUTS, True, True)


def step_error(pipeline: str, plan: Plan, number: int, error: Exception) -> ModelportError:
    """Return the error of a request of which a step has failed.

    pipeline  what comes before the step's name
    """
    where = f"{pipeline}step {number + 1} (model {plan.steps[number]})"
    if not isinstance(error, ModelportError):
        log.exception("a step failed: %s", where, exc_info=error)
        error = Internal("the gateway failed; its log says why")
    elif isinstance(error, NotFound):  # the client asked for the pipeline, which exists
        error = Unavailable(str(error))
    return prefixed(error, where)
