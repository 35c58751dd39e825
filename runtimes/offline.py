"""Runs an artifact on files of inputs as a worker would, without clients.

An export is compared with its original in this way: each runs in its own framework, with the code that serves it. Each
file is one run, except that an artifact with a fixed batch gets the rows of a larger file in chunks.
"""

import os
import time
from contextlib import ExitStack
from typing import Any, Dict, List, Optional, Sequence, Tuple

from runtimes import array_files, bounds, id_ranges
from runtimes.array_files import Arrays
from runtimes.contract import LoadError, Model, Signature, first_line
from runtimes.control import BatchingOptions, Load
from runtimes.worker import batching_decision, probe
from runtimes.worker.batcher import Batching
from runtimes.worker.chunked_model import ChunkedModel
from runtimes.worker.start import load_model

# Sizes tried for variable dimensions, in this order, until the model accepts one. These are more than a worker tries
# (probe.py), because an export fails without a size; 224 is the side of many image models.
_FREE_SIZES = (8, 1, 64, 16, 32, 128, 224)
# Limits for measuring the duration of an inference. More runs make the median more stable and the export slower.
_TIMED_S, _MAX_TIMED_RUNS = 2.0, 200
# Limits for all runs with large integers together. A model that uses them as sizes or numbers of steps exceeds these.
_LARGE_S, _LARGE_BYTES = 60.0, 2 << 30


def run_cases(job: Dict[str, Any]) -> Dict[str, Any]:
    """Run a job and return its result. The keys of a job:

    load       the model, as in a LOAD frame
    signature  the name of the signature; "" for the default
    cases      files (npz) of inputs. If empty, nothing is run and the model is described instead
    results    the folder for files of outputs, which have the same names
    shapes     for the description: input → fixed shape, if known; "" stands for the only input
    fold       whether refused inputs run again with their integers modulo the sizes that the model accepts
    large      whether the integers may be too large to be sizes or numbers of steps: the runs are then limited in time
               and memory, and the process ends if they exceed these limits
    fixed      the number of rows per run if the artifact accepts no other; 0 for any
    timed      a file of inputs for which the duration of an inference is measured; "" for none
    decide     whether the description includes how a worker would batch requests
    in_fp32    whether the model computes in FP32 what it computes in FP16 or BF16, with outputs that are not rounded.
               Fails if its runtime cannot do that
    """
    load = Load.from_json(job["load"])
    model, name = open_model(load, job["signature"])
    if not job["cases"]:
        facts = {"signatures": model.signatures, "signature": name}
        if not job["decide"]:
            return dict(_describe(model, name, job["shapes"]), **facts)
        served = _decide(model, name, load.batching)
        return dict(_describe(model, name, job["shapes"], served["sizes"], served["dim"]), batching=served, **facts)
    if job["in_fp32"]:
        model = model.in_fp32()
    run = _Run(model, name, job["fixed"], job["fold"], job["large"])
    with bounds.bounded(_LARGE_S, _LARGE_BYTES) if job["large"] else ExitStack():
        answers = [run.case(case, os.path.join(job["results"], os.path.basename(case))) for case in job["cases"]]
    return {"answers": answers, "seconds": run.seconds(job["timed"]) if job["timed"] else None}


def open_model(load: Load, signature: str) -> Tuple[Model, str]:
    """Return the model as a worker has it, and the signature's name; "" stands for the default. Raises LoadError."""
    model = load_model(load)
    model.signatures = batching_decision.with_free_rows(model.signatures, load.batching.sizes, load.batching.dim)
    name = signature or next(iter(model.signatures))
    if model.decoupled:
        raise LoadError("the model is decoupled, and only models with one answer to a request can be run on files")
    if name not in model.signatures:
        raise LoadError("there is no signature '%s'; there are %s" % (name, ", ".join(model.signatures)))
    return model, name


def _decide(model: Model, name: str, options: BatchingOptions) -> Dict[str, Any]:
    """Return how a worker would batch this signature: at most `rows` rows at once; 0 if requests run one by one."""
    decision = batching_decision.decide_batching(model, options)
    batching = decision.batching
    rows = batching.max_rows if name in batching.signatures else 0
    keeps_state = options.stateful or bool(decision.stateful)
    return {
        "rows": rows,
        "sizes": batching.sizes,
        "dim": options.dim,
        "note": decision.note,
        "keeps_state": keeps_state,
    }


def _describe(
    model: Model, name: str, shapes: Dict[str, Any], sizes: Sequence[int] = (), dim: int = 0
) -> Dict[str, Any]:
    """Return shapes of inputs that the model accepts as a batch of one, whether it is batched, and ranges of ids.

    sizes: the only numbers of rows that the model accepts, in dimension `dim`; the shapes then have the smallest
    """
    signature = model.signatures[name]
    declared = {spec.name: spec.shape for spec in signature.inputs}
    if len(declared) == 1 and "" in shapes:
        shapes = dict({name: shapes[""] for name in declared}, **shapes)
    for spec in signature.inputs:
        unknown = []
        if not spec.datatype:
            unknown.append("datatype")
        if spec.shape is None and spec.name not in shapes:
            unknown.append("shape")
        if unknown:
            raise LoadError(
                "neither the artifact nor model.toml declares the %s of input '%s': declare it in [[inputs]] of "
                "model.toml%s" % (" and ".join(unknown), spec.name, ", or use --shape" if unknown == ["shape"] else "")
            )
    batchable = batching_decision.batched_by_default(model, name)
    failed = ""
    for free in _FREE_SIZES:
        sized = {
            key: tuple(shapes[key])
            if key in shapes and _matches(shapes[key], shape)
            else tuple(
                size if size >= 0 else sizes[0] if sizes and axis == dim else 1 if axis == 0 and batchable else free
                for axis, size in enumerate(shape or ())
            )
            for key, shape in declared.items()
        }
        fixed = Signature(tuple(spec._replace(shape=sized[spec.name]) for spec in signature.inputs), ())
        try:
            model.infer(probe.generate(fixed, 1, 0, free, seed=0), (), name)
            return {"shapes": sized, "batchable": batchable, "ranges": id_ranges.read_ranges(model, name)}
        except Exception as error:  # noqa: BLE001 - a model may refuse synthetic inputs with any exception
            failed = failed or first_line(error)
    return {"shapes": {}, "batchable": batchable, "ranges": {}, "refused": failed}


def _matches(shape: Sequence[int], declared: Optional[Sequence[int]]) -> bool:
    """Return whether `shape` is the declared shape with its variable sizes filled in."""
    return declared is None or (len(shape) == len(declared) and all(d in (-1, s) for d, s in zip(declared, shape)))


class _Run:
    """Runs one signature on files of inputs. fixed, fold, large: as in `run_cases`."""

    def __init__(self, model: Model, signature: str, fixed: int, fold: bool, large: bool = False) -> None:
        self._model = model
        self._signature = signature
        self._fixed = fixed
        sizes = (fixed,) if fixed else ()
        self._chunked_model = ChunkedModel(model, Batching(fixed, frozenset([signature]), sizes=sizes))
        self._fold = fold
        self._large = large
        self._limits = {}  # type: Dict[str, id_ranges.Limit]

    def case(self, case: str, result: str) -> Dict[str, Any]:
        """Write the outputs of a case to `result`.

        Returns {}; or {"limits": input → size} if the model accepted the inputs only with their integers modulo these
        sizes; or {"failed": a sentence} if it refused them, in which case nothing is written.
        """
        inputs, limits = array_files.read(case), {}  # type: Arrays, Dict[str, id_ranges.Limit]
        try:
            outputs = self._outputs(inputs)
        except Exception as error:  # noqa: BLE001 - as above
            limits = self._limits_for(inputs) if self._fold else {}
            if not limits:
                return {"failed": first_line(error)}
            try:
                outputs = self._outputs(id_ranges.wrap_ids(inputs, limits))
            except Exception:  # noqa: BLE001 - as above
                return {"failed": first_line(error)}
        array_files.write(result, outputs)
        return {"limits": limits} if limits else {}

    def _limits_for(self, inputs: Arrays) -> Dict[str, id_ranges.Limit]:
        """Return the sizes of the ids, which are determined once, with the first inputs that were refused."""
        if self._large:
            return id_ranges.find_limits_of_large(self._accepts, inputs)
        if not self._limits:
            sizes = id_ranges.table_sizes(id_ranges.read_ranges(self._model, self._signature))
            suffice = sizes and self._accepts(id_ranges.wrap_ids(inputs, sizes))
            self._limits = dict(sizes) if suffice else id_ranges.find_limits(self._accepts, inputs) or {}
        return self._limits

    def _accepts(self, inputs: Arrays) -> bool:
        try:
            self._outputs(inputs)
        except Exception:  # noqa: BLE001 - as above
            return False
        return True

    def seconds(self, case: str) -> Optional[float]:
        """Return the median duration of the case after one warm-up run, or None if the model refuses it."""
        inputs = array_files.read(case)
        try:
            self._outputs(inputs)
        except Exception:  # noqa: BLE001 - as above
            return None
        durations: List[float] = []
        began = time.perf_counter()
        while not durations or (len(durations) < _MAX_TIMED_RUNS and time.perf_counter() - began < _TIMED_S):
            at = time.perf_counter()
            self._outputs(inputs)
            durations.append(time.perf_counter() - at)
        return sorted(durations)[len(durations) // 2]

    def _outputs(self, inputs: Arrays) -> Arrays:
        first = next(iter(inputs.values()), None)
        rows = first.shape[0] if self._fixed and first is not None and first.ndim else 0
        return self._chunked_model.run(inputs, (), self._signature, rows if rows != self._fixed else 0)
