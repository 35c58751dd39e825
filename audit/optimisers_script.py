"""Runs models of one runtime in its environment: `PYTHON optimisers_script.py JOBS.json RUNTIME VARIANT REPORT.json`.

Variant "off" runs without the graph optimizer. It writes its answers, and answers to slightly changed inputs that show
the float noise, to a file next to the jobs. The other variants are compared with these answers. The report contains ""
for each model whose answers are the same.
"""

import json
import os
import pickle
import runpy
import sys

import numpy as np

runpy.run_path(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "runtimes", "bootstrap.py"))

from runtimes.contract import numpy_dtype  # noqa: E402
from runtimes.control import Load  # noqa: E402
from runtimes.wire import specs_from_json  # noqa: E402
from runtimes.worker import start  # noqa: E402
from runtimes.worker.compare import difference  # noqa: E402

# Runs before the answer is compared. TorchScript optimizes a graph only after it has profiled the first runs.
RUNS = {"torchscript": 4}
NUDGES = 3
SCALES = {"ordinary": 1.0, "negative": -1.0, "zeros": 0.0, "large": 20.0, "constant": -2.5}


def switch(runtime, variant):
    """Patch the framework that modelport is about to use, so that it optimizes graphs as the variant says."""
    if runtime in ("onnx", "cntk_onnx", "dl4j"):
        import onnxruntime as ort

        ort.set_default_logger_severity(4)

        class Session(ort.InferenceSession):
            def __init__(self, model, settings, disabled_optimizers=None, **others):
                settings.log_severity_level = 4
                if variant == "off":
                    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
                if variant == "served":
                    others["disabled_optimizers"] = disabled_optimizers
                super().__init__(model, settings, **others)

        ort.InferenceSession = Session
    if variant != "off":
        return
    if runtime == "savedmodel":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if runtime == "torchscript":
        import torch

        torch._C._set_graph_executor_optimize(False)
    if runtime == "tflite":
        from ai_edge_litert import interpreter

        original, plain = interpreter.Interpreter, interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter.Interpreter = lambda **given: original(experimental_op_resolver_type=plain, **given)


def requests(signature, stored):
    if stored and all(spec.name in stored for spec in signature.inputs):
        return {"stored": {spec.name: stored[spec.name] for spec in signature.inputs}}
    return {kind: {s.name: drawn(s, kind) for s in signature.inputs} for kind in SCALES}


def drawn(spec, kind):
    random = np.random.RandomState(sum(map(ord, spec.name + kind)))
    shape = [size if size > 0 else 3 if place == 0 else 6 for place, size in enumerate(spec.shape or ())]
    dtype = numpy_dtype(spec.datatype or "FP32")
    if dtype.kind not in "f":
        return random.randint(0, 6, shape).astype(dtype)
    values = random.standard_normal(shape)
    values = {"negative": -np.abs(values), "constant": np.full(shape, SCALES[kind])}.get(kind, values * SCALES[kind])
    return np.asarray(values).astype(dtype)


def nudged(inputs, seed):
    random = np.random.RandomState(seed)

    def moved(array):
        if array.dtype.kind != "f":
            return array
        by = 2e-3 if array.dtype.itemsize == 2 else 1e-6
        return (array * (1 + by * random.choice([-1.0, 1.0], array.shape))).astype(array.dtype)

    return {name: moved(array) for name, array in inputs.items()}


def answer(model, inputs, times):
    for _ in range(times):
        found = model.infer(inputs, (), next(iter(model.signatures)))
    return {name: np.array(array) for name, array in found.items()}


def look(job, runtime, variant, kept):
    """Return a description of the differences, or "".

    A failure counts as an answer: the optimizer must neither cause nor prevent one.
    """
    declared = specs_from_json(job.get("declared", []))
    model = start.load_model(Load(job["runtime"], job["artifact"], declared, parameters=job.get("parameters", {})))
    stored = dict(np.load(job["inputs"])) if job.get("inputs") else {}
    stored.update({name: np.array(value) for name, value in job.get("values", {}).items()})
    times, found, texts = RUNS.get(runtime, 1), {}, []
    for kind, inputs in requests(next(iter(model.signatures.values())), stored).items():
        tries = [inputs] if variant != "off" else [inputs] * 2 + [nudged(inputs, seed) for seed in range(NUDGES)]
        try:
            found[kind] = [answer(model, each, times) for each in tries]
        except Exception as error:
            found[kind] = str(error)[:200]
        if variant != "off":
            texts.append(apart(kind, found[kind], kept.get(kind)))
    if variant == "off":
        kept.update(found)
        failed = [kind + ": " + text for kind, text in found.items() if isinstance(text, str)]
        return failed[0] if len(failed) == len(found) else ""
    return "; ".join(text for text in texts if text)


def apart(kind, got, wanted):
    if isinstance(got, str) or isinstance(wanted, str):
        same = isinstance(got, str) and isinstance(wanted, str)
        return "" if same else kind + (": fails only so" if isinstance(got, str) else ": fails only without")
    found = difference(got[0], wanted[0], 0, wanted[1:])
    return kind + ": " + str(found) if found else ""


def main():
    jobs, runtime, variant, report = sys.argv[1:]
    with open(jobs) as file:
        jobs_given = json.load(file)
    switch(runtime, variant)
    answers = {}
    if variant != "off":
        with open(jobs + ".answers", "rb") as file:
            answers = pickle.load(file)  # written by this file
    texts = {}
    for job in jobs_given:
        if variant != "off" and job["name"] not in answers:
            continue
        kept = answers.setdefault(job["name"], {})
        try:
            texts[job["name"]] = look(job, runtime, variant, kept)
        except Exception as error:  # frameworks raise arbitrary exceptions
            texts[job["name"]] = type(error).__name__ + ": " + str(error)[:200]
        if variant == "off" and not kept:
            del answers[job["name"]]
        for name in [name for name in sys.modules if name.startswith("modelport_runtime")]:
            del sys.modules[name]
    if variant == "off":
        with open(jobs + ".answers", "wb") as file:
            pickle.dump(answers, file)
    with open(report, "w") as file:
        json.dump(texts, file)
    sys.stdout.flush()
    os._exit(0)


main()
