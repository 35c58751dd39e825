"""What any runtime must do, checked inside its own interpreter.

    PYTHON suite.py RUNTIME_FOLDER ARTIFACT CASE_JSON

Prints one JSON object per check: {"check": name, "ok": bool, "detail": text}; exits with 0 when
all are ok. It needs numpy and nothing else, and runs on Python 3.6 and newer.

A case is a JSON object; every key may be left out:

inputs, expected  npz files relative to the case; without `inputs`, ones in the shapes of the signature
                  (an open dimension is 2). Strings are stored as numpy's S, since npz must need no pickle
expected_values   {output: nested list}: FP32 outputs, of which there may be others beside
strings           true: the expected values are strings
values            {input: nested list}: the same written out; where no datatype is told, numbers with
                  a point are FP32
options           LoadOptions' declared "inputs" and "outputs" as [name, datatype, shape], "parameters", "device"
signature         the signature to ask for; default: the first
told              {"inputs": [[name, datatype, shape]], "outputs": …}: what the signature must say
refused           output names that must be refused
refused_later     the same, of those that only an answer shows
left_out          output names that a request must not name, and that are in no answer
fails             the name of the exception that every request ends with, which is the model's fault
faults            [[artifact, {input: nested list}, whose, words]]: requests that fail: whose fault it is ("client" or
                  "model"; "memory": there is none for it), and words of the sentence
load_error        true: loading must fail with LoadError; or words that its sentence must hold
bad               [{input: nested list, …}, …]: requests that must be InvalidInput
stateful          true: the same request may be answered differently the next time
not_batchable     true: f(a‖b) need not be f(a)‖f(b)
analysis          what the graph must tell: "independent", or {"mixes", "writes" or "unknown": words of a reason}
analyses          the same of other signatures, by name
writing           the signatures which change the model's state: settling on batching leaves the answers as they were
tolerance         default 1e-4
labels, accuracy  an npz {output: right class per row}, and the part of the rows that must be right
"""

# Python 3.6 runs this: nothing newer may be suggested here.
# ruff: noqa: UP031, C419, B905, RUF005, PT018

import importlib
import importlib.util
import json
import os
import re
import sys
import traceback
import types

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "runtimes")


def import_file(name, path, places=None):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def import_runtime(folder):
    """As a worker does: runtime.py imports its neighbours relatively."""
    package = types.ModuleType("modelport_runtime")
    package.__path__ = [folder]
    sys.modules[package.__name__] = package
    return importlib.import_module("modelport_runtime.runtime")


import_file("runtimes", os.path.join(ROOT, "__init__.py"), [ROOT])
from runtimes import wire  # noqa: E402
from runtimes.contract import (  # noqa: E402
    DATATYPES,
    BatchAnalysis,
    InvalidInput,
    LoadError,
    LoadOptions,
    Model,
    TensorSpec,
    Unsupported,
    datatype_of,
    numpy_dtype,
)
from runtimes.control import BatchingOptions  # noqa: E402
from runtimes.tensors import from_array, to_array  # noqa: E402
from runtimes.worker import batching_decision  # noqa: E402


class Suite:
    """Every method named check_… is one check; its docstring says what must hold. Raise to fail."""

    def __init__(self, runtime, artifact, case_path):
        self.runtime = import_runtime(runtime)
        self.artifact = artifact
        self.folder = os.path.dirname(os.path.abspath(case_path))
        with open(case_path, encoding="utf-8") as file:
            self.case = json.load(file)

    def run(self):
        if self.case.get("load_error"):
            return report("load_error", self.load_error)
        if self.case.get("faults"):
            return report("faults", self.faults)
        if not report("load", self.load):
            return False
        if self.case.get("fails"):
            return report("fails", self.fails)
        # Sorted by line, so that `close` is the last and nothing depends on the alphabet.
        checks = [getattr(self, name) for name in dir(self) if name.startswith("check_")]
        checks.sort(key=lambda check: check.__func__.__code__.co_firstlineno)
        return all([report(check.__name__[len("check_") :], check) for check in checks])

    def options(self):
        told = self.case.get("options", {})
        return LoadOptions(
            artifact=self.artifact,
            inputs=specs(told.get("inputs", [])),
            outputs=specs(told.get("outputs", [])),
            device=told.get("device", "cpu"),
            parameters=told.get("parameters", {}),
        )

    def load_error(self):
        try:
            self.runtime.load(self.options())
        except LoadError as error:
            told, wanted = str(error), self.case["load_error"]
            if wanted is not True and wanted not in told:
                raise AssertionError("%r does not say %r" % (told, wanted)) from None
            return is_sentence(told)
        raise AssertionError("it loaded")

    def fails(self):
        """Every request fails, and not by the client's fault."""
        for _ in range(2):
            failed = None
            try:
                self.infer()
            except Exception as error:
                failed = error
            assert type(failed).__name__ == self.case["fails"], repr(failed)

    def faults(self):
        """A request that another could mend is the client's error; what none could mend is the model's."""
        wrong = []
        for artifact, values, whose, words in self.case["faults"]:
            self.artifact = os.path.join(self.folder, artifact)
            self.load()
            given = {name: sent(name, array) for name, array in self.from_values(values).items()}
            try:
                failed = self.infer(given)
            except Exception as error:
                failed = error
            found = {InvalidInput: "client", Unsupported: "client", MemoryError: "memory"}.get(type(failed), "model")
            if not isinstance(failed, Exception) or found != whose or words not in str(failed):
                wrong.append((artifact, found, repr(failed)))
            elif whose == "client":
                is_sentence(str(failed))
                assert "{{" not in str(failed), failed
        assert not wrong, wrong

    def load(self):
        self.model = self.runtime.load(self.options())
        assert isinstance(self.model, Model), "load gave %r" % self.model
        assert self.model.signatures, "no signature"
        self.name = self.case.get("signature") or next(iter(self.model.signatures))
        self.signature = self.model.signatures[self.name]
        self.inputs = self.good_inputs()

    def good_inputs(self):
        """As they reach a runtime in a worker: read-only views of a frame's bytes."""
        if "values" in self.case:
            arrays = self.from_values(self.case["values"])
        elif "inputs" in self.case:
            with np.load(os.path.join(self.folder, self.case["inputs"])) as stored:
                arrays = {name: stored[name] for name in stored.files}
        else:
            arrays = {spec.name: ones(spec) for spec in self.signature.inputs}
        return {name: sent(name, array) for name, array in arrays.items()}

    def from_values(self, values):
        known = {spec.name: spec.datatype for spec in self.signature.inputs}
        return {name: array_of(value, known.get(name, "")) for name, value in values.items()}

    def infer(self, inputs=None, outputs=()):
        return self.model.infer(self.inputs if inputs is None else inputs, list(outputs), self.name)

    def refuses(self, inputs, outputs=(), kinds=(InvalidInput,)):
        try:
            self.infer(inputs, outputs)
        except kinds as error:
            return is_sentence(str(error))
        raise AssertionError("it was answered")

    # ---------------------------------------------------------------- the checks, in order

    def check_signature(self):
        """Signatures are well formed, and say what the case says."""
        for signature in self.model.signatures.values():
            for group in (signature.inputs, signature.outputs):
                assert isinstance(group, tuple) and all(isinstance(spec, TensorSpec) for spec in group), group
                names = [spec.name for spec in group]
                assert all(names) and len(set(names)) == len(names), names
                for spec in group:
                    assert spec.datatype == "" or spec.datatype in DATATYPES, spec
                    assert spec.shape is None or isinstance(spec.shape, tuple), spec
                    assert all(type(size) is int and size >= -1 for size in spec.shape or ()), spec
            for name, reason in signature.refused.items():
                assert name not in [spec.name for spec in signature.outputs], name
                is_sentence(reason)
            raw = json.loads(json.dumps(signature))
            assert wire.signature_from_json(raw) == signature, "it does not survive the wire"
        for key, wanted in self.case.get("told", {}).items():
            assert getattr(self.signature, key) == specs(wanted), getattr(self.signature, key)
        if "refused_later" not in self.case:
            assert sorted(self.signature.refused) == sorted(self.case.get("refused", [])), self.signature.refused

    def check_infer(self):
        """Good inputs are answered: every output, in order, as the signature says, with the expected values."""
        answer = self.infer()
        # What cannot be served may show in the first answer only.
        self.signature = self.model.signatures[self.name]
        names = [spec.name for spec in self.signature.outputs]
        assert not names or list(answer) == names, "it gave %s, not %s" % (list(answer), names)
        for name, array in answer.items():
            assert isinstance(array, np.ndarray), "%s is a %s" % (name, type(array).__name__)
            assert datatype_of(array.dtype) in DATATYPES, array.dtype
            if array.dtype == object:
                assert all(isinstance(element, bytes) for element in array.flat), "%s is not bytes" % name
            from_array(name, array)
        for name in self.case.get("refused_later", []):
            assert name in self.signature.refused, self.signature.refused
        for spec in self.signature.outputs:
            assert fits(answer[spec.name], spec), "%s: %s%s" % (spec, answer[spec.name].dtype, answer[spec.name].shape)
        self.compare_with_expected(answer)

    def compare_with_expected(self, answer):
        for name, value in self.case.get("expected_values", {}).items():
            wanted = array_of(value, "BYTES") if self.case.get("strings") else np.asarray(value, np.float32)
            self.same(name, answer[name], wanted)
        if "expected" not in self.case:
            return
        with np.load(os.path.join(self.folder, self.case["expected"])) as stored:
            expected = {name: stored[name] for name in stored.files}
        assert sorted(expected) == sorted(answer), "expected are %s" % sorted(expected)
        for name, wanted in expected.items():
            self.same(name, answer[name], as_objects(wanted))

    def same(self, name, one, two):
        assert one.shape == two.shape and one.dtype == two.dtype, (name, one.shape, one.dtype, two.shape, two.dtype)
        if one.dtype.kind == "f":
            tolerance = self.case.get("tolerance", 1e-4)
            np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            assert np.array_equal(one, two), name

    def check_accuracy(self):
        """The largest score is at the right class as often as the case says."""
        if "labels" not in self.case:
            return
        answer = self.infer()
        with np.load(os.path.join(self.folder, self.case["labels"])) as labels:
            for name in labels.files:
                right = float((answer[name].argmax(axis=1) == labels[name]).mean())
                assert abs(right - self.case["accuracy"]) < 1e-9, "%s are right" % right

    def check_inputs_stay(self):
        """The inputs are not written to. The frame's bytes are behind them, and may be needed again."""
        before = {name: content(array) for name, array in self.inputs.items()}
        self.infer()
        assert before == {name: content(array) for name, array in self.inputs.items()}, "inputs were changed"

    def check_answers_stay(self):
        """An answer is not changed by the next one."""
        first = self.infer()
        before = {name: content(array) for name, array in first.items()}
        again = self.infer()
        assert before == {name: content(array) for name, array in first.items()}, "the earlier answer changed"
        if not self.case.get("stateful"):
            for name in first:
                self.same(name, again[name], first[name])

    def check_nothing_is_kept(self):
        """No request's memory is used after its answer: it holds the next request by then."""
        if self.case.get("stateful"):
            return
        wanted = self.infer()
        held = {name: array.copy() for name, array in self.inputs.items()}
        self.infer(held)
        for array in held.values():
            array[...] = b"gone" if array.dtype == object else np.zeros((), array.dtype)
        for name, array in self.infer().items():
            self.same(name, array, wanted[name])

    def check_some_outputs(self):
        """Each output can be asked for alone."""
        everything = self.infer()
        for name in everything:
            alone = self.infer(outputs=[name])
            assert list(alone) == [name], list(alone)
            if not self.case.get("stateful"):
                self.same(name, alone[name], everything[name])

    def check_refused_outputs(self):
        """An output that cannot be served, or that there is not, is the client's error."""
        left_out = self.case.get("left_out", [])
        assert not set(left_out) & set(self.infer()), "it is in the answer"
        for name in list(self.signature.refused) + left_out + ["no such output"]:
            self.refuses(None, [name], (InvalidInput, Unsupported))

    def check_missing_input(self):
        for name in self.inputs:
            self.refuses({other: array for other, array in self.inputs.items() if other != name})

    def check_wrong_datatype(self):
        """Strings for numbers and numbers for strings are refused."""
        for name, array in self.inputs.items():
            other = np.ones(array.shape, np.float32)
            if array.dtype != object:
                other = np.empty(array.shape, object)
                other[...] = b"not a number"
            self.refuses(dict(self.inputs, **{name: other}))

    def check_wrong_shape(self):
        """A shape that does not fit is refused. Where nothing is told, it may also be answered; never worse."""
        for spec in self.signature.inputs:
            array = self.inputs[spec.name]
            wrong = [array.reshape(array.shape + (1, 1, 1))]
            if array.size:
                wrong.append(array.reshape(-1)[:1].reshape(()))
            if array.ndim:
                wrong.append(np.concatenate([array, array], axis=-1))
            for other in wrong:
                fitting = spec.shape is None or (spec.shape == () and other.size == 1) or fits(other, spec)
                try:
                    self.infer(dict(self.inputs, **{spec.name: other}))
                except InvalidInput as error:
                    is_sentence(str(error))
                else:
                    assert fitting, "%s was answered for %s" % (other.shape, spec)

    def check_bad_requests(self):
        for bad in self.case.get("bad", []):
            given = {name: sent(name, array) for name, array in self.from_values(bad).items()}
            self.refuses(dict(self.inputs, **given))

    def check_still_works(self):
        """After all that was refused, good inputs are answered as before."""
        self.check_infer() if not self.case.get("stateful") else self.infer()

    def check_batch_analysis(self):
        """What is read from the graph is what the case says, and never that rows are apart which are not."""
        found = self.model.analyze_batch(self.name)
        assert found is None or isinstance(found, BatchAnalysis), found
        independent = found is not None and found.independent
        assert not (independent and (self.case.get("not_batchable") or self.case.get("stateful"))), found
        analyses = dict(self.case.get("analyses", {}))
        if "analysis" in self.case:
            analyses[self.name] = self.case["analysis"]
        for name, wanted in analyses.items():
            found = self.model.analyze_batch(name)
            if wanted == "independent":
                assert found.independent, (name, found)
            else:
                for kind, words in wanted.items():
                    assert any(words in reason for reason in getattr(found, kind)), (name, found)

    def check_input_ranges(self):
        """What the graph says of the inputs' numbers is what the case says."""
        found = self.model.input_ranges(self.name)
        assert set(found) <= set(self.inputs), found
        if "ranges" in self.case:
            assert {name: list(each) for name, each in found.items()} == self.case["ranges"], found

    def check_settled(self):
        """What a worker does at load runs no signature that changes the model's state."""
        if "writing" not in self.case:
            return
        decision = batching_decision.decide_batching(self.model, BatchingOptions())
        assert sorted(decision.stateful) == sorted(self.case["writing"]), decision
        assert decision.batching.signatures == {self.name}, decision
        self.check_infer()

    def check_batches(self):
        """Where every first dimension is open, rows do not see each other: f(a‖b) = f(a)‖f(b)."""
        everything = self.signature.inputs + self.signature.outputs
        open_first = all(spec.shape and spec.shape[0] == -1 for spec in everything) and self.signature.outputs
        if not open_first or self.case.get("not_batchable") or self.case.get("stateful"):
            return
        mirrored = {name: array[::-1].copy() for name, array in self.inputs.items()}
        one, two = self.infer(), self.infer(mirrored)
        both = self.infer({name: np.concatenate([self.inputs[name], mirrored[name]]) for name in mirrored})
        for name in both:
            self.same(name, both[name], np.concatenate([one[name], two[name]]))

    def check_pipelined(self):
        """Two batches under way at once are answered as one after the other."""
        if not self.model.pipelined:
            return
        wanted = self.infer()
        handles = [self.model.start(self.inputs, [], self.name) for _ in range(2)]
        for answer in [self.model.finish(handle) for handle in handles]:
            assert list(answer) == list(wanted), list(answer)
            for name in wanted if not self.case.get("stateful") else ():
                self.same(name, answer[name], wanted[name])

    def check_close(self):
        self.model.close()


def report(name, check):
    try:
        check()
    except Exception as error:
        detail = "%s: %s" % (type(error).__name__, error)
        traceback.print_exc()
        print(json.dumps({"check": name, "ok": False, "detail": detail}), flush=True)
        return False
    print(json.dumps({"check": name, "ok": True, "detail": ""}), flush=True)
    return True


def specs(raw):
    return wire.specs_from_json(raw)


def ones(spec):
    shape = tuple(2 if size == -1 else size for size in spec.shape or ())
    array = np.ones(shape, numpy_dtype(spec.datatype or "FP32"))
    if array.dtype == object:
        array[...] = b"one"
    return array


def array_of(value, datatype):
    array = np.asarray(value)
    if datatype == "BYTES" or array.dtype.kind in "US":
        objects = np.empty(array.shape, object)  # numpy's own strings have no zeros at their end
        objects[...] = np.asarray(value, object)
        return np.asarray(np.vectorize(encoded, otypes=[object])(objects), object) if objects.size else objects
    if not datatype and array.dtype.kind == "f":
        datatype = "FP32"
    return array.astype(numpy_dtype(datatype)) if datatype else array


def encoded(text):
    return text.encode(errors="surrogateescape") if isinstance(text, str) else text


def as_objects(array):
    """numpy's fixed-width strings as an object array of bytes."""
    if array.dtype.kind != "S":
        return array
    objects = np.empty(array.shape, object)
    objects[...] = array.astype(object)
    return objects


def sent(name, array):
    """Through the wire's own functions and back."""
    tensor = from_array(name, as_objects(array))
    return to_array(tensor._replace(data=bytes(tensor.data)))


def content(array):
    return array.tolist() if array.dtype == object else array.tobytes()


def fits(array, spec):
    if spec.datatype and datatype_of(array.dtype) != spec.datatype:
        return False
    if spec.shape is None:
        return True
    return len(spec.shape) == array.ndim and all(want in (-1, size) for want, size in zip(spec.shape, array.shape))


def is_sentence(text):
    """One line for a person, without a path, a place in memory, a traceback or an exception's name."""
    assert text.strip() and "\n" not in text, repr(text)
    for pattern in (r"(^|[\s'\"(:])/\w[\w.+-]*/", r"0x[0-9a-f]{6}", r"Traceback", r"\.(py|cc|cpp|h)\b", r"\w+Error: "):
        assert not re.search(pattern, text), "not for a client: %r" % text


if __name__ == "__main__":
    sys.exit(0 if Suite(*sys.argv[1:4]).run() else 1)
