"""Runs each check on models of one runtime, in its environment: `PYTHON nets_script.py JOBS.json ANSWERS.json`.

Each check runs separately, as if the others did not exist. Batches of ordinary requests simulate production: values
are drawn from a normal distribution, ids from the whole table, and lengths up to the size they refer to.
"""

import json
import os
import runpy
import sys

import numpy as np

runpy.run_path(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "runtimes", "bootstrap.py"))

from runtimes.contract import kind_of, numpy_dtype  # noqa: E402
from runtimes.control import Load  # noqa: E402
from runtimes.worker import batching_decision, start, trial  # noqa: E402
from runtimes.worker.compare import Noise, difference  # noqa: E402
from runtimes.worker.rows import concatenate, slice_rows  # noqa: E402

BATCHES = 40
TIME = 6


def request(signature, random, scale, time):
    inputs = {}
    for spec in signature.inputs:
        shape = [1] + [size if size >= 0 else time for size in (spec.shape or ())[1:]]
        if spec.datatype == "BYTES":
            inputs[spec.name] = np.full(shape, b"text", dtype=object)
        elif kind_of(spec.datatype) in ("int", "uint"):
            high = time if np.prod(shape) == 1 else 50
            inputs[spec.name] = random.randint(1, high + 1, shape).astype(numpy_dtype(spec.datatype))
            inputs[spec.name] -= np.prod(shape) != 1
        else:
            inputs[spec.name] = (random.standard_normal(shape) * scale).astype(numpy_dtype(spec.datatype))
    return inputs


def served(model, name):
    """Return whether rows were miscounted, and whether an answer depended on neighbors, in ordinary traffic."""
    signature, miscounted, differed = model.signatures[name], False, False
    for seed in range(BATCHES):
        random = np.random.RandomState(seed)
        scales = [(1, 1, 1), (1, 10, 0.1), (100, 1, 0.1), (3, 3, 3)][seed % 4]
        time = random.randint(3, 9)
        try:
            rows = [request(signature, random, scale, time) for scale in scales]
            alone = [model.infer(row, (), name) for row in rows]
            together = model.infer(concatenate(rows, 0, len(rows)), (), name)
        except Exception:  # noqa: S112 - a request that the model refuses is not evidence
            continue
        if any(array.ndim < 1 or array.shape[0] != len(rows) for array in together.values()):
            miscounted = True
            continue
        for index, (row, answer) in enumerate(zip(rows, alone)):  # noqa: B905 - Python 3.6
            got = slice_rows(together, 0, index, index + 1)
            if difference(got, answer, 0) and not Noise(
                lambda arrays: model.infer(arrays, (), name), row, answer
            ).explains(got, 0):
                differed = True
    return miscounted, differed


def look(job):
    load = Load(job["runtime"], job["artifact"], parameters=job["parameters"])
    model = start.load_model(load)
    name = next(iter(model.signatures))
    graph = model.analyze_batch(name)
    found = {"graph": "unread", "trial": "", "shape": "", "rows": False, "audit": False, "batched": False}
    if graph is not None:
        kinds = [kind for kind in ("writes", "mixes", "unknown") if getattr(graph, kind)]
        found["graph"] = kinds[0] if kinds else "independent"
        found["why"] = [text for kind in ("writes", "mixes", "unknown") for text in getattr(graph, kind)][:5]
    evidence = batching_decision._Evidence(model, load.batching, False)
    unfit = evidence._shape_objection(name)
    found["shape"] = unfit.text if unfit else ""
    if not unfit:
        found["trial"] = trial.run(model, name, batching_decision.DEFAULT_MAX_ROWS)[1]
    if all(spec.datatype and spec.shape for spec in model.signatures[name].inputs):
        found["rows"], found["audit"] = served(model, name)
    found["batched"] = evidence.objection_to(name) is None
    return found


def main():
    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    answers = {}
    for job in jobs:
        try:
            answers[job["name"]] = look(job)
        except Exception as error:  # frameworks raise arbitrary exceptions; the table counts them
            answers[job["name"]] = {"error": type(error).__name__ + ": " + str(error)[:200]}
        for name in [name for name in sys.modules if name.startswith("modelport_runtime")]:
            del sys.modules[name]
    with open(sys.argv[2], "w") as file:
        json.dump(answers, file)
    sys.stdout.flush()
    os._exit(0)


main()
