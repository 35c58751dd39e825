"""An artifact run over files of inputs, as a worker would run it, but for no client.

With it an export is compared with its original: each in its own framework, by the same code that
serves it. Nothing is batched that was not together in a file, except that an artifact with a fixed
batch gets the rows of a larger file piece by piece.
"""

import os
import time
from typing import Any, Dict, Optional, Sequence

from runtimes import array_files, id_ranges
from runtimes.array_files import Arrays
from runtimes.contract import LoadError, Model, Signature, first_line
from runtimes.control import Load
from runtimes.worker import batching_decision, probe
from runtimes.worker.batcher import Batching
from runtimes.worker.chunked_model import ChunkedModel
from runtimes.worker.start import load_model

# What a dimension of any size gets, until one of them works.
_FREE_SIZES = (8, 1, 64, 16, 32, 128, 224)
# How long an inference is timed for at most, and how often.
_TIMED_S, _TIMED = 2.0, 200


def run_cases(job: Dict[str, Any]) -> Dict[str, Any]:
    """The answer to a job, whose keys are

    load       the model, as a LOAD frame has it
    signature  "" for the default one
    cases      files (npz) of inputs. Empty: nothing is run, the model is described
    results    the folder for files of the same names, with what came out
    shapes     for describing: input → shape with nothing open, where one is known; "" is the only input
    fold       whether inputs that are refused are run again with their whole numbers modulo what the model takes
    fixed      rows that the artifact wants at a time, where it cannot take others: 0 for any
    timed      a file of inputs for one inference, whose time is wanted; "" for none
    """
    load = Load.from_json(job["load"])
    model = load_model(load)
    model.signatures = batching_decision.with_free_rows(model.signatures, load.batching.sizes, load.batching.dim)
    name = job["signature"] or next(iter(model.signatures))
    if name not in model.signatures:
        raise LoadError("there is no signature '%s'; there are %s" % (name, ", ".join(model.signatures)))
    if not job["cases"]:
        return dict(_described(model, name, job["shapes"]), signatures=model.signatures, signature=name)
    run = _Run(model, name, job["fixed"], job["fold"])
    answers = [run.case(case, os.path.join(job["results"], os.path.basename(case))) for case in job["cases"]]
    return {"answers": answers, "seconds": run.seconds(job["timed"]) if job["timed"] else None}


def _described(model: Model, name: str, shapes: Dict[str, Any]) -> Dict[str, Any]:
    """Inputs that work: their shapes for a batch of one, and whether batches are what they seem."""
    signature = model.signatures[name]
    told = {spec.name: spec.shape for spec in signature.inputs}
    if len(told) == 1 and "" in shapes:
        shapes = dict({name: shapes[""] for name in told}, **shapes)
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
            if key in shapes and _fits(shapes[key], shape)
            else tuple(
                size if size >= 0 else (1 if axis == 0 and batchable else free) for axis, size in enumerate(shape)
            )
            for key, shape in told.items()
        }
        fixed = Signature(tuple(spec._replace(shape=sized[spec.name]) for spec in signature.inputs), ())
        try:
            model.infer(probe.generate(fixed, 1, 0, free, seed=0), (), name)
            return {"shapes": sized, "batchable": batchable, "ranges": id_ranges.read(model, name)}
        except Exception as error:  # noqa: BLE001 - a model may refuse invented inputs in any way it likes
            failed = failed or first_line(error)
    return {"shapes": {}, "batchable": batchable, "ranges": {}, "refused": failed}


def _fits(given: Sequence[int], told: Optional[Sequence[int]]) -> bool:
    """Whether it is the told shape, with its open sizes filled in."""
    return told is None or (len(given) == len(told) and all(t in (-1, g) for t, g in zip(told, given)))


class _Run:
    def __init__(self, model: Model, signature: str, fixed: int, fold: bool) -> None:
        self._model = model
        self._signature = signature
        self._fixed = fixed
        sizes = (fixed,) if fixed else ()
        self._chunked_model = ChunkedModel(model, Batching(fixed, frozenset([signature]), sizes=sizes))
        self._fold = fold
        self._limits = {}  # type: Dict[str, int]

    def case(self, case: str, result: str) -> Dict[str, Any]:
        """{} when the outputs are written, else {"failed": a sentence}: these inputs are not for this model.

        {"limits": input → size}: they are, once their whole numbers are modulo these sizes.
        """
        inputs, limits = array_files.read(case), {}  # type: Arrays, Dict[str, int]
        try:
            outputs = self._outputs(inputs)
        except Exception as error:  # noqa: BLE001 - as above
            limits = self._found(inputs) if self._fold else {}
            if not limits:
                return {"failed": first_line(error)}
            try:
                outputs = self._outputs(id_ranges.folded(inputs, limits))
            except Exception:  # noqa: BLE001 - as above
                return {"failed": first_line(error)}
        array_files.write(result, outputs)
        return {"limits": limits} if limits else {}

    def _found(self, inputs: Arrays) -> Dict[str, int]:
        """Of the first inputs that were refused because of them: the others get the same."""
        if not self._limits:
            told = id_ranges.table_sizes(id_ranges.read(self._model, self._signature))
            known = told and self._takes(id_ranges.folded(inputs, told))
            self._limits = told if known else id_ranges.limits(self._takes, inputs) or {}
        return self._limits

    def _takes(self, inputs: Arrays) -> bool:
        try:
            self._outputs(inputs)
        except Exception:  # noqa: BLE001 - as above
            return False
        return True

    def seconds(self, case: str) -> Optional[float]:
        """The median of what the case takes, warm; None where it is not for this model."""
        inputs = array_files.read(case)
        try:
            self._outputs(inputs)
        except Exception:  # noqa: BLE001 - as above
            return None
        took = []  # type: List[float]
        began = time.perf_counter()
        while not took or (len(took) < _TIMED and time.perf_counter() - began < _TIMED_S):
            at = time.perf_counter()
            self._outputs(inputs)
            took.append(time.perf_counter() - at)
        return sorted(took)[len(took) // 2]

    def _outputs(self, inputs: Arrays) -> Arrays:
        first = next(iter(inputs.values()), None)
        rows = first.shape[0] if self._fixed and first is not None and first.ndim else 0
        return self._chunked_model.run(inputs, (), self._signature, rows if rows != self._fixed else 0)
