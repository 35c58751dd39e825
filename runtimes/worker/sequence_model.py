"""A model of sequences as clients see it: the worker feeds its states and its controls.

It takes requests as they came, joins those of several sequences where rows may be joined, and keeps for each sequence
what the model returns as its state. Whatever the runtime, this is the only code that does so.
"""

import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from runtimes.checks import has_shape
from runtimes.contract import (
    DATATYPES,
    BatchAnalysis,
    DeviceLost,
    InvalidInput,
    LoadError,
    Model,
    ModelFailed,
    Request,
    Signature,
    TensorSpec,
    datatype_of,
    numpy_dtype,
)
from runtimes.control import BatchingOptions, ControlTensor, Load, SequenceOptions, SequenceState
from runtimes.tensors import unpack_bytes
from runtimes.worker.batcher import Batching, padded_size
from runtimes.worker.batching_decision import BatchingDecision, decide_batching
from runtimes.worker.chunked_model import ChunkedModel, RowCountMismatch
from runtimes.worker.rows import Arrays, slice_rows
from runtimes.worker.sequences import SequenceId, Sequences
from runtimes.worker.wrapped import Wrapped

# Sequences of one worker that run at once, if nothing else is configured.
_MAX_SEQUENCES = 1024
Answer = Union[Arrays, Exception]


def with_sequence_tensors(load: Load) -> Load:
    """Return what the runtime loads: declared inputs and outputs include those that clients do not see."""
    options = load.sequence
    if options is None:
        return load
    inputs, outputs = load.inputs, load.outputs
    if inputs:
        known = [spec.name for spec in inputs]
        hidden = [(each.input, each.datatype) for each in options.controls + options.states]
        inputs += tuple([TensorSpec(*each) for each in hidden if each[0] not in known])
    if outputs:
        known = [spec.name for spec in outputs]
        inner = [TensorSpec(each.output, each.datatype) for each in options.states if each.output not in known]
        outputs += tuple(inner)
    return load._replace(inputs=inputs, outputs=outputs)


class Joined(Wrapped):
    """The runtime's model, with the states of all sequences joined in the dimension `dim`, as its other inputs are.

    They have this dimension even if batching is off. It also leaves out the signatures that lack one of the tensors of
    [sequence].
    """

    def __init__(self, model: Model, options: SequenceOptions, batching: BatchingOptions) -> None:
        super().__init__(model)
        self._options, self.dim = options, batching.dim
        self.pipelined = False  # a sequence has one request running at a time
        if model.decoupled:
            raise LoadError("[sequence] is configured, but the model is decoupled, which sequences cannot be")
        self._check_names()
        self.keeps_states, self.state_count = not options.states, len(options.states)
        default = next(iter(self.signatures.values()))
        ranks = {spec.name: None if spec.shape is None else len(spec.shape) for spec in default.inputs}
        self.row_states = [  # the states that have a dimension for sequences
            state.input
            for state in options.states
            if batching.max_rows != 0 and ranks.get(state.input) in (None, len(state.shape) + 1)
        ]
        for state in options.states:
            rank, name = ranks.get(state.input), state.input
            if rank is not None and rank != len(state.shape) + (name in self.row_states):
                raise LoadError(
                    "the state '%s' is declared with %d sizes, but the model's input has %d"
                    % (name, len(state.shape), rank)
                )
            if name in self.row_states and self.dim > len(state.shape):
                raise LoadError("the state '%s' has no dimension %d in which rows are counted" % (name, self.dim))
        moved = [state for state in options.states if state.input in self.row_states and state.dim != self.dim]
        self._moved_inputs = {state.input: state.dim for state in moved}
        self._moved_outputs = {state.output: state.dim for state in moved}
        self.signatures = {
            name: signature._replace(
                inputs=tuple([self._joined_spec(spec, self._moved_inputs) for spec in signature.inputs]),
                outputs=tuple([self._joined_spec(spec, self._moved_outputs) for spec in signature.outputs]),
            )
            for name, signature in self.signatures.items()
        }

    def _check_names(self) -> None:
        """Keep the signatures that have all tensors. Raises LoadError if there is none."""
        options, lacking = self._options, ""
        inputs = [each.input for each in options.controls + options.states]
        self.signatures = {}
        for name, signature in self._model.signatures.items():
            known = [spec.name for spec in signature.inputs]
            made = [spec.name for spec in signature.outputs] + list(signature.refused)
            missing = ["input '%s'" % each for each in inputs if each not in known]
            missing += ["output '%s'" % each.output for each in options.states if made and each.output not in made]
            if missing:
                lacking = lacking or missing[0]
            else:
                self.signatures[name] = signature
        if not self.signatures:
            raise LoadError("[sequence] names the %s, which the model does not have" % lacking)

    def _joined_spec(self, spec: TensorSpec, moved: Dict[str, int]) -> TensorSpec:
        if spec.name not in moved or spec.shape is None:
            return spec
        sizes = list(spec.shape)
        sizes.insert(self.dim, sizes.pop(moved[spec.name]))
        return spec._replace(shape=tuple(sizes))

    def infer(self, inputs: Arrays, outputs: Sequence[str], signature: str) -> Arrays:
        if self._moved_inputs:
            inputs = dict(inputs)
            for name, dim in self._moved_inputs.items():
                inputs[name] = np.ascontiguousarray(np.moveaxis(inputs[name], self.dim, dim))
        answer = self._model.infer(inputs, outputs, signature)
        for name, dim in self._moved_outputs.items():
            if name in answer and answer[name].ndim > dim:
                answer = dict(answer, **{name: np.moveaxis(answer[name], dim, self.dim)})
        return answer

    def infer_requests(self, requests: Sequence[Request], signature: str) -> Sequence[Answer]:
        return self._model.infer_requests(requests, signature)

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        found = self._model.analyze_batch(signature)
        if found is None:
            return None
        if self._moved_inputs:
            found = BatchAnalysis((), found.writes, ("states are joined in another dimension",), alone=found.alone)
        if self._options.strategy == "direct" and self.keeps_states:
            found = found._replace(writes=())  # each row of the batch has the state of one sequence
        return found


def decide_sequence_batching(model: Joined, options: BatchingOptions, on_card: bool) -> BatchingDecision:
    """Do what `decide_batching` does. A model that keeps states itself runs for clients only."""
    if model.keeps_states and not model.takes_requests and options.max_rows is None:
        note = "batching is off: the model keeps its states itself; max_batch_size in model.toml turns it on"
        return BatchingDecision(Batching(target=options.target), "state", note, list(model.signatures))
    if model.keeps_states:
        decision = decide_batching(model, options._replace(trial=False), on_card)
        return decision._replace(stateful=list(model.signatures))
    if len(model.row_states) < model.state_count:
        if options.max_rows:
            raise LoadError(
                "max_batch_size = %d is configured, but the states have no dimension for it" % options.max_rows
            )
        options = options._replace(max_rows=0)
    return decide_batching(model, options, on_card)


class _Row(NamedTuple):
    """A request of a batch, with what the worker adds to it."""

    request: Request
    slot: int
    flags: Tuple[bool, bool]  # start, end
    id: SequenceId
    states: Arrays


class SequenceModel(Model):
    """What clients see: no controls, and no states unless model.toml declares their outputs."""

    takes_requests = True

    def __init__(self, model: Joined, load: Load, batching: Batching) -> None:
        assert load.sequence is not None
        self._model, self._batching, self.options = model, batching, load.sequence
        self._chunked = ChunkedModel(model, batching)
        self.name, self.calls_models = load.name, model.calls_models
        options = self.options
        declared = [spec.name for spec in load.outputs]
        self._hidden_inputs = [each.input for each in options.controls + options.states]
        self._hidden_outputs = [each.output for each in options.states if each.output not in declared]
        self._ranks = {
            spec.name: len(spec.shape)
            for spec in next(iter(model.signatures.values())).inputs
            if spec.shape is not None
        }
        # Of a control whose shape is not declared. It stays even if batching goes off.
        self._control_rank = 2 if batching.max_rows else 1
        # Whether a batch has a row for each sequence, at the same position in each batch.
        self.has_slots = bool(options.strategy == "direct" and batching.max_rows and not model.takes_requests)
        self._initial = {state.input: _initial(state) for state in options.states}
        self.sequences = Sequences(self._capacity(), options.idle_timeout)
        self.signatures = self.visible(model.signatures)

    def _capacity(self) -> int:
        options, rows = self.options, max(self._batching.max_rows, 1)
        wanted = options.max_sequences or (_MAX_SEQUENCES if options.strategy == "oldest" else rows)
        keeps_rows = options.strategy == "direct" and not (self._model.takes_requests or options.states)
        return min(wanted, rows) if self.has_slots or keeps_rows else wanted

    def visible(self, signatures: Dict[str, Signature]) -> Dict[str, Signature]:
        """Return signatures without what the worker feeds and keeps."""
        return {
            name: Signature(
                tuple([spec for spec in signature.inputs if spec.name not in self._hidden_inputs]),
                tuple([spec for spec in signature.outputs if spec.name not in self._hidden_outputs]),
                {key: why for key, why in signature.refused.items() if key not in self._hidden_outputs},
                tuple([each for each in signature.optional if each not in self._hidden_inputs]),
                {
                    key: tuple([each for each in names if each not in self._hidden_inputs])
                    for key, names in signature.needs.items()
                    if key not in self._hidden_outputs
                },
            )  # without inputs that have no rows: requests of other sequences may run at the same time
            for name, signature in signatures.items()
        }

    def infer_requests(self, requests: Sequence[Request], signature: str) -> Sequence[Answer]:
        answers: Dict[int, Answer] = {}
        groups: Dict[Any, List[int]] = {}
        rows: Dict[int, _Row] = {}
        for index, request in enumerate(requests):
            try:
                rows[index] = self._row(request)
            except InvalidInput as error:
                answers[index] = error
                continue
            # Only rows of the same shape can be joined. Others run after them.
            shapes = tuple([array.shape for array in rows[index].states.values()])
            groups.setdefault(shapes if self._batching.max_rows else index, []).append(index)
        for indices in groups.values():
            found = self._run([rows[index] for index in indices], signature)
            answers.update(zip(indices, found))
        return [answers[index] for index in range(len(requests))]

    def _row(self, request: Request) -> _Row:
        """Raises InvalidInput if the model cannot take the request."""
        control = request.sequence
        if control is None:
            raise InvalidInput("the request names no sequence")
        for name in request.inputs:
            if name in self._hidden_inputs:
                raise InvalidInput("input '%s' is made by the server; leave it out" % name)
        for name, array in request.inputs.items():
            if self._batching.max_rows and (array.ndim <= self._model.dim or array.shape[self._model.dim] != 1):
                raise InvalidInput("input '%s' must have one row, because the request belongs to a sequence" % name)
        for tensor in self.options.controls:
            if tensor.kind == "CORRID":
                _check_id(control.id, tensor)
        sequence = self.sequences[control.id]
        states = self._initial if control.start or sequence.states is None else sequence.states
        return _Row(request, sequence.slot, (control.start, control.end), control.id, states)

    def _run(self, rows: List[_Row], signature: str) -> List[Answer]:
        """Return an answer per row. If they fail together, each runs again on its own."""
        try:
            if self._model.takes_requests:
                return self._run_requests(rows, signature)
            return list(self._run_joined(rows, signature))
        except DeviceLost:
            raise
        except RowCountMismatch as error:
            if self.has_slots:
                return [ModelFailed("the model does not keep one row per sequence: " + str(error)) for _ in rows]
            self._batching = Batching()
            self._chunked = ChunkedModel(self._model, self._batching)
            raise
        except Exception as error:  # noqa: BLE001 - frameworks raise anything
            # A model that keeps its states itself may have changed some of them already.
            if len(rows) == 1 or not self.options.states:
                return [error for _ in rows]
        return [answer for row in rows for answer in self._run([row], signature)]

    def _run_requests(self, rows: List[_Row], signature: str) -> List[Answer]:
        given = []
        for row in rows:
            added = self._controls([row], [0], 1)
            added.update(self._joined_states([row], [0], 1))
            inputs = dict(row.request.inputs, **added)
            given.append(row.request._replace(inputs=inputs, outputs=self._wanted(row.request.outputs)))
        answers: List[Answer] = []
        for row, answer in zip(rows, self._model.infer_requests(given, signature)):
            try:
                answers.append(answer if isinstance(answer, Exception) else self._keep(row, answer))
            except ModelFailed as error:
                answers.append(error)
        return answers

    def _run_joined(self, rows: List[_Row], signature: str) -> List[Arrays]:
        dim, is_batched = self._model.dim, bool(self._batching.max_rows)
        slots = [row.slot for row in rows] if self.has_slots else list(range(len(rows)))
        size = count = self.sequences.rows if self.has_slots else len(rows)
        if self.has_slots and self._batching.sizes:
            size = padded_size(count, self._batching.sizes)
        inputs = {}
        for name, array in rows[0].request.inputs.items():
            parts = [row.request.inputs[name] for row in rows]
            inputs[name] = _placed(parts, slots, size, dim) if is_batched else array
        inputs.update(self._controls(rows, slots, size))
        inputs.update(self._joined_states(rows, slots, size))
        wanted = self._wanted(rows[0].request.outputs)
        if self.has_slots:  # it sees all slots in each run, so that a batch is never divided
            outputs = self._chunked.check_rows(self._model.infer(inputs, wanted, signature), count)
        else:
            outputs = self._chunked.run(inputs, wanted, signature, count if is_batched else 0)
        answers = []
        for row, slot in zip(rows, slots):
            answers.append(self._keep(row, slice_rows(outputs, dim, slot, slot + 1) if is_batched else outputs))
        return answers

    def _wanted(self, outputs: Sequence[str]) -> Sequence[str]:
        """Return the outputs that the model is asked for, given those that a client wants; empty for all."""
        if not outputs:
            return outputs
        return list(outputs) + [each.output for each in self.options.states if each.output not in outputs]

    def _keep(self, row: _Row, outputs: Arrays) -> Arrays:
        """Stage the states of a sequence, and return the outputs that its client gets."""
        staged = {}
        for state in self.options.states:
            if state.output not in outputs:
                raise ModelFailed("the model has not returned the state '%s'" % state.output)
            array = outputs[state.output]
            if state.input in self._model.row_states:
                if array.ndim <= self._model.dim or array.shape[self._model.dim] != 1:
                    raise ModelFailed("the state '%s' has shape %s for one row" % (state.output, list(array.shape)))
                array = np.take(array, 0, self._model.dim)
            _check_state(state, array)
            # A copy: a view would keep the states of the whole batch in memory.
            staged[state.input] = np.array(array, dtype=numpy_dtype(state.datatype))
        self.sequences[row.id].staged = staged
        asked = row.request.outputs
        return {
            name: array
            for name, array in outputs.items()
            if (name in asked if asked else name not in self._hidden_outputs)
        }

    def _joined_states(self, rows: List[_Row], slots: List[int], size: int) -> Arrays:
        joined = {}
        for name in self._initial:
            parts = [row.states[name] for row in rows]
            if name in self._model.row_states:
                parts = [np.expand_dims(part, self._model.dim) for part in parts]
                joined[name] = _placed(parts, slots, size, self._model.dim)
            else:
                joined[name] = np.array(parts[0])
        return joined

    def _controls(self, rows: List[_Row], slots: List[int], size: int) -> Arrays:
        """Return the inputs that say of each row what its request is. Rows without a request have no flag, and id 0."""
        controls = {}
        for tensor in self.options.controls:
            blank = (b"" if tensor.datatype == "BYTES" else 0) if tensor.kind == "CORRID" else tensor.off
            values = [blank] * size  # type: List[Any]
            for row, slot in zip(rows, slots):
                if tensor.kind == "CORRID":
                    values[slot] = str(row.id).encode() if tensor.datatype == "BYTES" else row.id
                else:
                    is_on = {"START": row.flags[0], "END": row.flags[1], "READY": True}[tensor.kind]
                    values[slot] = tensor.on if is_on else tensor.off
            rank = self._ranks.get(tensor.input, self._control_rank)
            shape = [1] * rank
            if rank > self._model.dim:
                shape[self._model.dim] = size
            controls[tensor.input] = np.array(values, numpy_dtype(tensor.datatype)).reshape(shape)
        return controls

    def close(self) -> None:
        self._model.close()


def _placed(parts: Sequence[np.ndarray], slots: List[int], size: int, dim: int) -> np.ndarray:
    """Return `size` rows of which each part is the one at its slot. The others are zeros, or empty strings.

    This is always a copy, so that a model that changes its inputs changes no state.
    """
    first = parts[0]
    blank = np.full(first.shape, b"" if first.dtype == object else 0, first.dtype)
    every = [blank] * size
    for slot, part in zip(slots, parts):
        every[slot] = part
    return np.concatenate(every, axis=dim)


def _check_id(key: SequenceId, tensor: ControlTensor) -> None:
    if tensor.datatype == "BYTES":
        return
    limits = np.iinfo(numpy_dtype(tensor.datatype))
    if isinstance(key, str):
        raise InvalidInput("the model takes the sequence's id as %s, so it must be a number" % tensor.datatype)
    if not limits.min <= key <= limits.max:
        raise InvalidInput("the model takes the sequence's id as %s, and %d is too large" % (tensor.datatype, key))


def _check_state(state: SequenceState, array: np.ndarray) -> None:
    shape = array.shape
    if not has_shape(shape, state.shape):
        text = "the state '%s' has shape %s, but %s is declared"
        raise ModelFailed(text % (state.output, list(shape), list(state.shape)))
    if datatype_of(array.dtype) != state.datatype:
        text = "the state '%s' has datatype %s, but %s is declared"
        raise ModelFailed(text % (state.output, datatype_of(array.dtype), state.datatype))


def _initial(state: SequenceState) -> np.ndarray:
    """Return a new sequence's state. Raises LoadError if its file has another size."""
    count = 1
    for size in state.initial:
        count *= size
    is_text = state.datatype == "BYTES"
    if not state.file:
        return np.full(state.initial, b"" if is_text else 0, numpy_dtype(state.datatype))
    name, itemsize = os.path.basename(state.file), DATATYPES[state.datatype].itemsize
    try:
        with open(state.file, "rb") as file:
            data = file.read()
    except OSError:
        raise LoadError("the initial state '%s' of '%s' cannot be read" % (name, state.input)) from None
    if is_text:
        try:
            flat = np.empty(count, dtype=object)
            flat[:] = unpack_bytes(data, count)
        except ValueError as error:
            raise LoadError("the initial state '%s' of '%s' is not valid: %s" % (name, state.input, error)) from None
        return flat.reshape(state.initial)
    if len(data) != count * itemsize:
        text = "the initial state '%s' of '%s' has %d bytes, but %s%s needs %d"
        raise LoadError(text % (name, state.input, len(data), state.datatype, list(state.initial), count * itemsize))
    return np.frombuffer(data, numpy_dtype(state.datatype)).reshape(state.initial)
