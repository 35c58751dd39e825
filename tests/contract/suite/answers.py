"""Checks of signatures and answers."""

import json
import os

import numpy as np

from .arrays import array_of, as_objects, content, fits, sent, specs
from .model import TestedModel, is_sentence
from runtimes import wire
from runtimes.contract import DATATYPES, TensorSpec, datatype_of
from runtimes.tensors import from_array


class AnswerChecks(TestedModel):
    def check_signature(self):
        """Signatures are well formed, and equal those in the case."""
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
            assert set(signature.optional) <= {spec.name for spec in signature.inputs}, signature
            raw = json.loads(json.dumps(signature))
            assert wire.signature_from_json(raw) == signature, "it does not survive the wire"
        for key, expected in self.case.get("expected_signature", {}).items():
            assert getattr(self.signature, key) == specs(expected), getattr(self.signature, key)
        if "refused_later" not in self.case:
            assert sorted(self.signature.refused) == sorted(self.case.get("refused", [])), self.signature.refused

    def check_infer(self):
        """The answer to good inputs has every output, in the signature's order, with the expected values."""
        answer = self.infer()
        # Some outputs turn out to be unservable only in the first answer.
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
        for values, expected in self.case.get("then", []):
            given = {name: sent(name, array) for name, array in self.from_values(values).items()}
            for name, value in expected.items():
                self.same(name, self.infer(given)[name], array_of(value, "FP32"))

    def compare_with_expected(self, answer):
        for name, value in self.case.get("expected_values", {}).items():
            datatypes = self.case.get("expected_datatypes", {})
            expected = array_of(value, "BYTES" if self.case.get("strings") else datatypes.get(name, "FP32"))
            if answer[name].dtype.isbuiltin == 2:  # the case lists numbers of what numpy lacks
                expected = expected.astype(answer[name].dtype)
            self.same(name, answer[name], expected)
        if "expected" not in self.case:
            return
        with np.load(os.path.join(self.folder, self.case["expected"])) as stored:
            expected = {name: stored[name] for name in stored.files}
        assert sorted(expected) == sorted(answer), "expected are %s" % sorted(expected)
        for name, array in expected.items():
            self.same(name, answer[name], as_objects(array))

    def check_accuracy(self):
        """The share of rows whose largest score is at the right class equals the case's accuracy."""
        if "labels" not in self.case:
            return
        answer = self.infer()
        with np.load(os.path.join(self.folder, self.case["labels"])) as labels:
            for name in labels.files:
                right = float((answer[name].argmax(axis=1) == labels[name]).mean())
                assert abs(right - self.case["accuracy"]) < 1e-9, "%s are right" % right

    def check_inputs_stay(self):
        """The model does not modify its inputs: they are views of the frame's bytes, which may be needed again."""
        before = {name: content(array) for name, array in self.inputs.items()}
        self.infer()
        assert before == {name: content(array) for name, array in self.inputs.items()}, "inputs were changed"

    def check_answers_stay(self):
        """A later request does not change an earlier answer."""
        first = self.infer()
        before = {name: content(array) for name, array in first.items()}
        again = self.infer()
        assert before == {name: content(array) for name, array in first.items()}, "the earlier answer changed"
        if not self.case.get("stateful"):
            for name in first:
                self.same(name, again[name], first[name])

    def check_nothing_is_kept(self):
        """No request's memory is used after its answer, because it may hold the next request by then."""
        if self.case.get("stateful"):
            return
        expected = self.infer()
        held = {name: array.copy() for name, array in self.inputs.items()}
        self.infer(held)
        for array in held.values():
            array[...] = b"gone" if array.dtype == object else np.zeros((), array.dtype)
        for name, array in self.infer().items():
            self.same(name, array, expected[name])

    def check_some_outputs(self):
        """Each output can be requested alone."""
        everything = self.infer()
        for name in everything:
            alone = self.infer(outputs=[name])
            assert list(alone) == [name], list(alone)
            if not self.case.get("stateful"):
                self.same(name, alone[name], everything[name])
