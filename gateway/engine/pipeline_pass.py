"""The steps of a pipeline that run once: for a request, or for one answer of a decoupled step."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gateway.domain.pipeline import Step
from gateway.domain.types import InferRequest, InferResponse
from gateway.engine.pipeline_compiled import Progress
from gateway.engine.pipeline_plan import Plan
from gateway.engine.protocol import AnswerCallback
from gateway.errors import Internal, InvalidRequest, ModelportError
from runtimes.tensor_bytes import Tensor


class Host(Protocol):
    """The request whose steps run, as its passes see it."""

    plan: Plan

    @property
    def request(self) -> InferRequest | None:
        """None once it is settled."""

    def submit(self, child: InferRequest, on_answer: AnswerCallback) -> object:
        """Send a request to the model of a step."""

    def note_bytes(self, size: int) -> None:
        """A step has made so many bytes."""

    def advance(self) -> None:
        """A step has ended."""


class Pass:
    """Runs the steps of one part of the graph, each as soon as what it needs exists.

    A part has all steps up to a decoupled one, which counts for itself: its answers begin other passes. A pass of the
    next part goes on from the tensors of this one, with those of one answer, and runs what depends on them. Without a
    decoupled step, the first part is all of it.

    part     its number
    start    sends the request of the part's decoupled step; None stands for one that is skipped
    left     steps that have not ended
    failure  the step that has failed, and why; nothing goes on after that
    made     bytes
    """

    __slots__ = ("_host", "_makers", "_missing", "_numbers", "_ready", "_tensors", "_uses", "failure", "left", "made",
                 "part", "start")  # fmt: skip

    def __init__(self, host: Host, before: "Pass | None" = None) -> None:
        plan = host.plan
        self.part: int = 0 if before is None else before.part + 1
        self.start: Callable[[InferRequest | None], None] | None = None
        self._host = host
        # By the pipeline's names. None for those that do not exist, since nothing has made them.
        self._tensors: dict[str, Tensor | None] = {} if before is None else dict(before._tensors)
        self._missing: list[int] = list(plan.needs if before is None else before._missing)
        self._makers: dict[str, int] = dict(plan.makers if before is None else before._makers)
        self._uses: dict[str, int] = dict(plan.uses if before is None else before._uses)
        self._numbers = plan.parts[self.part]
        self._ready = deque(number for number in sorted(self._numbers) if not self._missing[number])
        self.left = len(self._numbers) - (self.part < len(plan.decoupled))
        self.made = 0
        self.failure: tuple[int, Exception] | None = None

    @property
    def is_done(self) -> bool:
        return not self.left or self.failure is not None

    def output(self, name: str) -> Tensor | None:
        return self._tensors.get(name)

    def begin(self, inputs: Sequence[Tensor]) -> None:
        """Run with the inputs of a request."""
        for tensor in inputs:
            self._put(tensor.name, tensor)
        for name in self._host.plan.inputs:
            if name not in self._tensors:
                self._put(name, None)  # it is optional
        self._go_on()

    def resume(self, progress: Progress) -> None:
        """Go on with what has been begun elsewhere."""
        sent = {*progress.ended, *progress.under_way}
        for number in sent:
            for name in self._host.plan.steps[number].needs:
                self._uses[name] -= 1
        for name, tensor in progress.tensors.items():
            self._put(name, tensor)
        self._ready = deque(number for number in self._ready if number not in sent)
        self.left -= len(progress.ended)
        self.made = progress.made
        self._go_on()

    def begin_with_answer(self, number: int, outputs: Sequence[Tensor]) -> None:
        """Run with an answer of a decoupled step, which has this number."""
        try:
            self._take(number, outputs)
        except Exception as error:
            self._fail(number, error)
        self._go_on()

    def forget(self) -> None:
        """Free the tensors of a request that has ended, and the error, which refers back to this."""
        self._tensors = {}
        self.failure = None
        self.start = None

    def _fail(self, number: int, error: Exception) -> None:
        """Note an error. Its traceback, which only those of our own need, would keep the tensors in a cycle."""
        self.failure = number, error.with_traceback(None) if isinstance(error, ModelportError) else error

    def _put(self, name: str, tensor: Tensor | None) -> None:
        """A tensor exists, or it is certain that it will not."""
        self._tensors[name] = tensor
        for number in self._host.plan.consumers.get(name, ()):
            self._missing[number] -= 1
            if not self._missing[number] and number in self._numbers:
                self._ready.append(number)

    def _go_on(self) -> None:
        """Run all steps whose inputs are ready."""
        while self._ready and self.failure is None and self._host.request is not None:
            number = self._ready.popleft()
            try:
                self._step(number, self._host.request)
            except Exception as error:
                self._fail(number, error)

    def _step(self, number: int, request: InferRequest) -> None:
        host, plan = self._host, self._host.plan
        step = plan.steps[number]
        inputs = self._inputs(number) if self._holds(step) else None
        for name in step.needs:
            self._uses[name] -= 1
            if not self._uses[name]:
                self._tensors[name] = None  # frees its bytes
        if inputs is None:
            self._skip(number)
            return
        no_rows = plan.answer_without_rows(number, [tensor.shape for tensor in inputs])
        if no_rows is not None:
            self.left -= 1
            self._take(number, no_rows)
            return
        child = request._replace(
            model=step.model,
            version=step.version,
            inputs=inputs,
            outputs=plan.requested[number],
            signature="",
            layout=None,
        )
        if number in plan.decoupled:
            assert self.start is not None
            self.start(child)
        else:
            host.submit(child, partial(self.on_answer, number))

    def _skip(self, number: int) -> None:
        if number in self._host.plan.decoupled:
            assert self.start is not None
            self.start(None)
            return
        self.left -= 1
        for name in self._host.plan.steps[number].outputs.values():
            self._miss(name)

    def _holds(self, step: Step) -> bool:
        """Return whether the step's condition is met."""
        when = step.when
        if when is None:
            return True
        tensor = self._tensors[when.tensor]
        if tensor is None:
            return False
        if tensor.datatype != "BOOL" or len(tensor.data) != 1:
            kind = InvalidRequest if when.tensor in self._host.plan.inputs else Internal
            raise kind(
                f"it runs only when '{when}', which must be BOOL with one element, but is {tensor.datatype} of shape "
                f"{list(tensor.shape)}"
            )
        return (tensor.data[0] != 0) == when.value

    def _inputs(self, number: int) -> list[Tensor] | None:
        """Return the inputs of a step: outputs of others under the names of its model. None if one does not exist.

        The bytes are those that the other steps' workers have sent. WorkerClient.send copies large ones into the arena
        of the step's model, and small ones into its frame.
        """
        plan, inputs = self._host.plan, []
        for name, source in plan.steps[number].inputs.items():
            tensor = self._tensors[source]
            if tensor is not None:
                inputs.append(Tensor(name, tensor.datatype, tensor.shape, tensor.data))
            elif name in plan.needed[number]:
                return None
        return inputs

    def on_answer(self, number: int, outcome: InferResponse | Exception) -> None:
        """A step has ended."""
        if self.failure is not None:
            return
        if isinstance(outcome, Exception):
            self.failure = number, outcome
        else:
            self.left -= 1
            try:
                self._take(number, outcome.outputs)
            except Exception as error:
                self._fail(number, error)
        self._go_on()
        self._host.advance()

    def _take(self, number: int, outputs: Sequence[Tensor]) -> None:
        given = {tensor.name: tensor for tensor in outputs}
        made = 0
        for output, name in self._host.plan.steps[number].outputs.items():
            tensor = given.get(output)
            if tensor is None:
                self._miss(name)
            elif name in self._tensors:
                raise Internal(f"another step has made tensor '{name}' already; only one `when` of theirs may hold")
            else:
                made += len(tensor.data)
                self._put(name, Tensor(name, tensor.datatype, tensor.shape, tensor.data))
        self.made += made
        self._host.note_bytes(made)

    def _miss(self, name: str) -> None:
        """A step has not made this tensor; perhaps another will."""
        self._makers[name] -= 1
        if not self._makers[name] and name not in self._tensors:
            self._put(name, None)
