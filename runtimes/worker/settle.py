"""Whether a model's requests are put together: what is declared, what its graph says, what a trial shows.

A declaration is the owner's word, and what the graph says against it is a warning. What is measured outranks
both: rows that are miscounted, here or in any batch later on, and an audit's difference.
"""

from typing import Dict, NamedTuple, Optional, Sequence

from runtimes.contract import BatchAnalysis, LoadError, Model, Signature, TensorSpec, first_line
from runtimes.control import BatchingOptions
from runtimes.worker import trial
from runtimes.worker.batcher import Batching

DEFAULT_MAX_ROWS = 32
_HOW_TO_TURN_ON = "; max_batch_size in model.toml turns it on"
_HOW_TO_PAD = "; batch_sizes = [%d] in model.toml fills batches up"


class Why(NamedTuple):
    """Why a signature is not batched: a word for the metric (worker/facts.py lists them), and the rest of a sentence.

    advice: what the owner can do, where a declaration would be right.
    """

    reason: str
    text: str
    advice: str = ""


class Settled(NamedTuple):
    """reason, note: as Facts has them.

    writing      the signatures that change the model's state when they run: nobody runs them unasked
    independent  whether the graph alone shows that rows do not influence each other, in every batched signature
    """

    batching: Batching
    reason: str
    note: str
    writing: Sequence[str] = ()
    independent: bool = False


def with_free_rows(signatures: Dict[str, Signature], sizes: Sequence[int], dim: int) -> Dict[str, Signature]:
    """An artifact with a fixed batch takes any number of rows when model.toml declares that size: they are padded.

    Outputs are freed along with the inputs only: beside inputs of any size, a fixed output counts something else.
    """

    def is_fixed(spec: TensorSpec) -> bool:
        return spec.shape is not None and len(spec.shape) > dim and spec.shape[dim] in sizes

    def freed(spec: TensorSpec) -> TensorSpec:
        if not is_fixed(spec):
            return spec
        shape = spec.shape or ()
        return spec._replace(shape=shape[:dim] + (-1,) + shape[dim + 1 :])

    return {
        name: Signature(
            tuple(freed(spec) for spec in signature.inputs),
            tuple(freed(spec) for spec in signature.outputs),
            signature.refused,
        )
        if any(is_fixed(spec) for spec in signature.inputs)
        else signature
        for name, signature in signatures.items()
    }


def settle(model: Model, wanted: BatchingOptions, on_card: bool = False) -> Settled:
    """Raises LoadError where a declaration cannot be right."""
    found = _Findings(model, wanted, on_card)
    off = Batching(target=wanted.target)
    if wanted.off is not None:
        return Settled(off, wanted.off.reason, "batching is off: " + wanted.off.why, found.writing)
    if wanted.max_rows == 0:
        return Settled(off, "declared", "batching is off: max_batch_size = 0 is configured", found.writing)
    if wanted.stateful:
        return Settled(off, "state", "batching is off: the model is declared stateful", found.writing)
    whys = {name: found.why_not(name) for name in model.signatures}
    batched = [name for name, why in whys.items() if why is None]
    if not batched:
        why = next(iter(whys.values()))
        assert why is not None
        if found.declared and why.reason != "graph":
            raise LoadError("%s is configured, but %s" % (found.declared, why.text))
        return Settled(off, why.reason, "batching is off: " + why.text + why.advice, found.writing)
    sizes = tuple(sorted(wanted.sizes))
    batching = Batching(found.rows, frozenset(batched), wanted.dim, wanted.delay, sizes, wanted.target)
    return Settled(batching, "", _note(found, whys), found.writing, found.are_independent(batched))


def holds(model: Model, name: str) -> bool:
    """Whether this signature would be batched where model.toml says nothing."""
    return _Findings(model, BatchingOptions(), False).why_not(name) is None


def _note(found: "_Findings", whys: Dict[str, Optional[Why]]) -> str:
    note = "batching up to %d rows" % found.rows
    for name, why in whys.items():
        if why is not None:
            note += "; not for signature '%s': %s" % (name, why.text)
    mixes = [text for name, why in whys.items() if why is None for text in found.graph(name).mixes]
    if mixes:
        note += "; %s is kept to, but rows of a batch may influence each other: %s" % (found.declared, _some(mixes))
    return note


class _Findings:
    """What is known of each signature of a model.

    declared  what model.toml says, as it stands there; "" for nothing
    rows      the most rows of a batch
    writing   as Settled has it
    """

    def __init__(self, model: Model, wanted: BatchingOptions, on_card: bool) -> None:
        self._model = model
        self._dim = wanted.dim
        self._may_try = wanted.trial
        self._on_card = on_card
        self._vouched = wanted.vouched
        self._padded_to: int = max(wanted.sizes, default=0)
        self.declared, self.rows = "", DEFAULT_MAX_ROWS
        if wanted.max_rows:
            self.declared, self.rows = "max_batch_size = %d" % wanted.max_rows, wanted.max_rows
        elif self._padded_to:
            # Who declares sizes declares batching.
            self.declared, self.rows = "batch_sizes = %s" % sorted(wanted.sizes), self._padded_to
        if self._padded_to:
            self.rows = min(self.rows, self._padded_to)  # the model may see declared sizes only
        self._graphs = {name: _read_graph(model, name, self._dim) for name in model.signatures}
        self.writing = [name for name in model.signatures if self.graph(name).writes]

    def graph(self, name: str) -> BatchAnalysis:
        """What the graph says; where there is none to read, that it says nothing."""
        return self._graphs[name] or BatchAnalysis(unknown=("there is no graph to read",))

    def are_independent(self, names: Sequence[str]) -> bool:
        return all(self.graph(name).independent for name in names)

    def why_not(self, name: str) -> Optional[Why]:
        """None for a signature that is batched."""
        graph = self.graph(name)
        if graph.writes:
            return Why("state", "running it changes the model's state: " + _some(graph.writes))
        if self.declared:
            text = self._contradiction(name)
            if text:
                return Why("shape", text)
            return None if self._vouched else self._mixing(graph, "; dynamic_batching in config.pbtxt turns it on")
        why = self._unfit(name) or self._mixing(graph)
        if why is not None:
            return why
        if not self._may_try:
            return Why("trial", "the worker died when trial runs were made", _HOW_TO_TURN_ON)
        reason, text = trial.run(self._model, name, self.rows, self._on_card)
        return Why(reason, text) if reason else None

    def _mixing(self, graph: BatchAnalysis, advice: str = "") -> Optional[Why]:
        if not graph.mixes:
            return None
        return Why("graph", "the rows of a batch influence each other: " + _some(graph.mixes), advice)

    def _contradiction(self, name: str) -> str:
        """What a signature has against batching that is declared; "" if nothing."""
        signature, dim = self._model.signatures[name], self._dim
        if any(not _is_free(spec, dim, unknown=True) for spec in signature.inputs):
            return "no signature has a free dimension %d in all its inputs" % dim
        suspects = [spec.name for spec in signature.outputs if not _is_free(spec, dim, unknown=True)]
        if self._may_try and (suspects or self._padded_to > 1):
            # What the artifact says of an output's size may be left over from an export: a run shows what it counts.
            return trial.stray_output(self._model, name, self._padded_to or 2, dim, suspects)
        return "output '%s' does not count rows in dimension %d" % (suspects[0], dim) if suspects else ""

    def _unfit(self, name: str) -> Optional[Why]:
        """What in a signature's shapes and datatypes rules batching out."""
        signature = self._model.signatures[name]
        if not signature.inputs or not signature.outputs:
            return Why("shape", "the artifact does not say what its inputs and outputs are", _HOW_TO_TURN_ON)
        for spec in signature.inputs + signature.outputs:
            if spec.shape is None:
                return Why("shape", "the artifact does not say the shape of '%s'" % spec.name, _HOW_TO_TURN_ON)
            if not spec.shape:
                return Why("shape", "'%s' is a scalar" % spec.name)
        for spec in signature.inputs:
            if not spec.datatype:
                return Why("shape", "the artifact does not say the datatype of '%s'" % spec.name, _HOW_TO_TURN_ON)
        for spec in signature.inputs + signature.outputs:
            if not _is_free(spec, 0, unknown=False):
                return Why("shape", "the first dimension of '%s' is fixed" % spec.name, self._how_to_pad(name))
        return None

    def _how_to_pad(self, name: str) -> str:
        """The advice for an artifact whose batch is fixed; "" unless a run shows it to be right."""
        signature = self._model.signatures[name]
        sizes = {(spec.shape or (-1,))[0] for spec in signature.inputs + signature.outputs}
        size = sizes.pop()
        if sizes or size < 1 or (size > 1 and not self._may_try):
            return ""
        if size > 1 and (self.graph(name).mixes or trial.stray_output(self._model, name, size, 0, ())):
            return ""
        return _HOW_TO_PAD % size


def _read_graph(model: Model, name: str, dim: int) -> Optional[BatchAnalysis]:
    try:
        found = model.analyze_batch(name)
        if found is not None and dim:  # it is about the first dimension
            return BatchAnalysis((), found.writes, ("rows do not lie along the first dimension",))
        return found
    except Exception as error:  # noqa: BLE001 - a graph that cannot be read says nothing, and no more
        print("the graph of signature '%s' could not be read: %s" % (name, first_line(error)))
        return None


def _is_free(spec: TensorSpec, dim: int, unknown: bool) -> bool:
    if spec.shape is None:
        return unknown
    return len(spec.shape) > dim and spec.shape[dim] == -1


def _some(texts: Sequence[str], most: int = 3) -> str:
    distinct = sorted(set(texts), key=list(texts).index)
    more = len(distinct) - most
    return ", ".join(distinct[:most]) + (" and %d more" % more if more > 0 else "")
