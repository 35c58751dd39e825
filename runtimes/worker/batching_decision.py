"""Decides whether requests of a model are batched, from the declaration, the model's graph and a trial run.

A declaration is the owner's decision; if the graph contradicts it, that is only a warning. Measurements outrank both: a
wrong number of rows, here or in any later batch, and a difference that an audit finds.
"""

from typing import Dict, FrozenSet, NamedTuple, Optional, Sequence

from runtimes.contract import BatchAnalysis, LoadError, Model, Signature, TensorSpec, first_line
from runtimes.control import BatchingOptions
from runtimes.worker import trial
from runtimes.worker.batcher import Batching

# The limit if model.toml sets none. Larger batches gain little throughput in most models but need more memory and make
# requests wait longer; smaller ones leave throughput unused. CostCurve reduces it if a smaller size is better.
DEFAULT_MAX_ROWS = 32
_HOW_TO_TURN_ON = "; max_batch_size in model.toml turns it on"
_HOW_TO_PAD = "; batch_sizes = [%d] in model.toml fills batches up"


class Objection(NamedTuple):
    """Why a signature is not batched.

    reason: the label of the metric (`Facts` lists them). text: the end of a sentence that begins "batching is off: ".
    advice: how the owner can turn batching on, if a declaration may be right.
    """

    reason: str
    text: str
    advice: str = ""


class BatchingDecision(NamedTuple):
    """Whether and how a model is batched.

    reason, note      as in Facts
    stateful          the signatures that change the model's state when they run; they run only for a client
    rows_independent  whether the graph alone proves that rows do not influence each other, in every batched signature
    varies            as in Ready, of any signature
    """

    batching: Batching
    reason: str
    note: str
    stateful: Sequence[str] = ()
    rows_independent: bool = False
    varies: str = ""


def with_free_rows(signatures: Dict[str, Signature], sizes: Sequence[int], dim: int) -> Dict[str, Signature]:
    """Return the signatures with a variable batch dimension in place of a size that model.toml declares.

    An artifact with a fixed batch accepts any number of rows if `batch_sizes` declares that size, because batches are
    padded. An output becomes variable only together with an input of its signature: if the inputs are variable
    already, the size of a fixed output counts something other than rows.
    """

    def is_fixed(spec: TensorSpec) -> bool:
        return spec.shape is not None and len(spec.shape) > dim and spec.shape[dim] in sizes

    def with_free_dim(spec: TensorSpec) -> TensorSpec:
        if not is_fixed(spec):
            return spec
        shape = spec.shape or ()
        return spec._replace(shape=shape[:dim] + (-1,) + shape[dim + 1 :])

    return {
        name: signature._replace(
            inputs=tuple(with_free_dim(spec) for spec in signature.inputs),
            outputs=tuple(with_free_dim(spec) for spec in signature.outputs),
        )
        if any(is_fixed(spec) for spec in signature.inputs)
        else signature
        for name, signature in signatures.items()
    }


def unbatched(signatures: Dict[str, Signature]) -> FrozenSet[str]:
    """Return the inputs and outputs without rows."""
    return frozenset(
        name for each in signatures.values() for name in (*(spec.name for spec in each.unbatched), *each.json)
    )


def decide_batching(model: Model, options: BatchingOptions, on_card: bool = False) -> BatchingDecision:
    """Return how the model is batched. Raises LoadError if the declaration cannot be right.

    on_card: whether the model runs on a GPU, where a trial must not use large indices.
    """
    if model.decoupled:
        off = Batching(target=options.target)
        return BatchingDecision(off, "decoupled", "batching is off: the model is decoupled")
    evidence = _Evidence(model, options, on_card)
    return _decide(evidence, model, options)._replace(varies=evidence.varies)


def _decide(evidence: "_Evidence", model: Model, options: BatchingOptions) -> BatchingDecision:
    """Raises LoadError."""
    off = Batching(target=options.target)
    if options.off is not None:
        return BatchingDecision(off, options.off.reason, "batching is off: " + options.off.why, evidence.stateful)
    if options.max_rows == 0:
        return BatchingDecision(off, "declared", "batching is off: max_batch_size = 0 is configured", evidence.stateful)
    if options.stateful:
        return BatchingDecision(off, "state", "batching is off: the model is declared stateful", evidence.stateful)
    objections = {name: evidence.objection_to(name) for name in model.signatures}
    batched = [name for name, objection in objections.items() if objection is None]
    if not batched:
        objection = next(iter(objections.values()))
        assert objection is not None
        if evidence.declared and objection.reason not in ("graph", "declared"):
            raise LoadError("%s is configured, but %s" % (evidence.declared, objection.text))
        return BatchingDecision(
            off, objection.reason, "batching is off: " + objection.text + objection.advice, evidence.stateful
        )
    sizes = tuple(sorted(options.sizes))
    batching = Batching(
        evidence.rows,
        frozenset(batched),
        options.dim,
        options.delay,
        sizes,
        options.target,
        unbatched(model.signatures),
    )
    return BatchingDecision(
        batching, "", _note(evidence, objections), evidence.stateful, evidence.rows_are_independent(batched)
    )


def batched_by_default(model: Model, name: str) -> bool:
    """Return whether this signature is batched if model.toml says nothing about batching."""
    return _Evidence(model, BatchingOptions(), False).objection_to(name) is None


def _note(evidence: "_Evidence", objections: Dict[str, Optional[Objection]]) -> str:
    note = "batching up to %d rows" % evidence.rows
    for name, objection in objections.items():
        if objection is not None:
            note += "; not for signature '%s': %s" % (name, objection.text)
    mixes = [text for name, objection in objections.items() if objection is None for text in evidence.graph(name).mixes]
    if mixes:
        note += "; %s is honored, but rows of a batch may influence each other: %s" % (evidence.declared, _some(mixes))
    return note


class _Evidence:
    """What is known about each signature of a model. `objection_to` weighs it.

    declared  the key and value in model.toml that declare batching; "" if there is none
    rows      the maximum number of rows in a batch
    stateful  as in BatchingDecision
    """

    def __init__(self, model: Model, options: BatchingOptions, on_card: bool) -> None:
        self._model = model
        self._dim = options.dim
        self._may_run_trial = options.trial
        self._proven = options.proven
        self._on_card = on_card
        self._declares_batching = options.declares_batching
        self._padded_to: int = max(options.sizes, default=0)
        self.declared, self.rows = "", DEFAULT_MAX_ROWS
        if options.max_rows:
            self.declared, self.rows = "max_batch_size = %d" % options.max_rows, options.max_rows
        elif self._padded_to:
            # Declaring sizes implies declaring batching.
            self.declared, self.rows = "batch_sizes = %s" % sorted(options.sizes), self._padded_to
        if self._padded_to:
            self.rows = min(self.rows, self._padded_to)  # the model must only see declared sizes
        self._graphs = {name: _read_graph(model, name, self._dim) for name in model.signatures}
        self.stateful = [name for name in model.signatures if self.graph(name).writes]
        limits = [graph.max_rows for graph in self._graphs.values() if graph is not None and graph.max_rows is not None]
        self._limit = min(limits) if limits else None
        if self._limit is not None and not (self.declared and self._declares_batching):
            self.rows = min(self.rows, self._limit)

    def graph(self, name: str) -> BatchAnalysis:
        """Return the analysis of the graph, which proves nothing if there is no graph to read."""
        return self._graphs[name] or BatchAnalysis(unknown=("there is no graph to read",))

    @property
    def varies(self) -> str:
        return next((self.graph(name).varies for name in self._graphs if self.graph(name).varies), "")

    def rows_are_independent(self, names: Sequence[str]) -> bool:
        return all(self.graph(name).independent for name in names)

    def objection_to(self, name: str) -> Optional[Objection]:
        """Return why the signature is not batched, or None if it is."""
        graph = self.graph(name)
        if graph.alone:
            return Objection("declared", graph.alone)
        if graph.writes:
            return Objection("state", "running it changes the model's state: " + _some(graph.writes))
        if self._model.takes_requests:
            return None  # the rows of different requests never meet in one array
        if self.declared:
            text = self._declaration_error(name)
            if text:
                return Objection("shape", text)
            if self._declares_batching:
                return None
            return self._graph_objection(graph, "; dynamic_batching in config.pbtxt turns it on")
        objection = self._shape_objection(name) or self._graph_objection(graph)
        if objection is not None:
            return objection
        if name in self._proven:
            return None
        if not self._may_run_trial:
            return Objection("trial", "the worker died during trial runs", _HOW_TO_TURN_ON)
        reason, text = trial.run(self._model, name, self.rows, self._on_card)
        return Objection(reason, text) if reason else None

    def _graph_objection(self, graph: BatchAnalysis, advice: str = "") -> Optional[Objection]:
        if not graph.mixes:
            return None
        return Objection("graph", "the rows of a batch influence each other: " + _some(graph.mixes), advice)

    def _declaration_error(self, name: str) -> str:
        """Return what in the signature contradicts declared batching, or "" if nothing does."""
        signature, dim = self._model.signatures[name], self._dim
        if any(not _is_free(spec, dim, unknown=True) for spec in signature.inputs):
            return "no signature has a free dimension %d in all its inputs" % dim
        if self._limit is not None and self.rows > self._limit:
            return "the artifact accepts at most %d rows" % self._limit
        suspects = [spec.name for spec in signature.outputs if not _is_free(spec, dim, unknown=True)]
        if self._may_run_trial and (suspects or self._padded_to > 1):
            # A fixed size of an output may be an artifact of its export; only a run shows what the dimension counts.
            return trial.stray_output(self._model, name, self._padded_to or 2, dim, suspects)
        return "output '%s' does not count rows in dimension %d" % (suspects[0], dim) if suspects else ""

    def _shape_objection(self, name: str) -> Optional[Objection]:
        """Return what in the shapes and datatypes rules batching out, or None."""
        signature = self._model.signatures[name]
        if not signature.inputs or not signature.outputs:
            return Objection("shape", "the artifact does not declare its inputs and outputs", _HOW_TO_TURN_ON)
        for spec in signature.inputs + signature.outputs:
            if spec.shape is None:
                return Objection(
                    "shape", "the artifact does not declare the shape of '%s'" % spec.name, _HOW_TO_TURN_ON
                )
            if not spec.shape:
                return Objection("shape", "'%s' is a scalar" % spec.name)
        for spec in signature.inputs:
            if not spec.datatype:
                return Objection(
                    "shape", "the artifact does not declare the datatype of '%s'" % spec.name, _HOW_TO_TURN_ON
                )
        for spec in signature.inputs + signature.outputs:
            if not _is_free(spec, 0, unknown=False):
                return Objection("shape", "the first dimension of '%s' is fixed" % spec.name, self._how_to_pad(name))
        return None

    def _how_to_pad(self, name: str) -> str:
        """Return the advice for an artifact with a fixed batch, or "" unless a run shows that the advice is right."""
        signature = self._model.signatures[name]
        sizes = {(spec.shape or (-1,))[0] for spec in signature.inputs + signature.outputs}
        size = sizes.pop()
        if sizes or size < 1 or (size > 1 and not self._may_run_trial):
            return ""
        if size > 1 and (self.graph(name).mixes or trial.stray_output(self._model, name, size, 0, ())):
            return ""
        return _HOW_TO_PAD % size


def _read_graph(model: Model, name: str, dim: int) -> Optional[BatchAnalysis]:
    try:
        analysis = model.analyze_batch(name)
        if analysis is not None and dim:  # the analysis is about the first dimension
            random = (analysis.varies,) if analysis.varies and not analysis.writes else ()
            unknown = ("rows are not along the first dimension",) + random
            return BatchAnalysis((), analysis.writes, unknown, alone=analysis.alone, random=analysis.random)
        return analysis
    except Exception as error:  # noqa: BLE001 - an unreadable graph proves nothing, and is no reason to fail
        print("the graph of signature '%s' could not be read: %s" % (name, first_line(error)))
        return None


def _is_free(spec: TensorSpec, dim: int, unknown: bool) -> bool:
    if spec.shape is None:
        return unknown
    return len(spec.shape) > dim and spec.shape[dim] == -1


def _some(texts: Sequence[str], limit: int = 3) -> str:
    """Return the first distinct texts, and how many more there are."""
    distinct = sorted(set(texts), key=list(texts).index)
    more = len(distinct) - limit
    return ", ".join(distinct[:limit]) + (" and %d more" % more if more > 0 else "")
