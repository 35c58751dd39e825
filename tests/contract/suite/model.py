"""A runtime's model under test, loaded as a case describes it."""

import json
import os
import re

import numpy as np

from .arrays import array_of, ones, sent, specs
from .imports import import_runtime
from runtimes.contract import InvalidInput, LoadOptions, Model


class TestedModel:
    """load() sets: model, name (the signature's), signature, inputs (good ones)."""

    def __init__(self, runtime, artifact, case_path):
        self.runtime = import_runtime(runtime)
        self.artifact = artifact
        self.folder = os.path.dirname(os.path.abspath(case_path))
        with open(case_path, encoding="utf-8") as file:
            self.case = json.load(file)

    def options(self):
        declared = self.case.get("options", {})
        return LoadOptions(
            artifact=self.artifact,
            inputs=specs(declared.get("inputs", [])),
            outputs=specs(declared.get("outputs", [])),
            device=declared.get("device", "cpu"),
            parameters=declared.get("parameters", {}),
            max_rows=declared.get("max_rows"),
            optional=tuple(declared.get("optional", [])),
        )

    def load(self):
        self.model = self.runtime.load(self.options())
        assert isinstance(self.model, Model), "load gave %r" % self.model
        assert self.model.signatures, "no signature"
        self.name = self.case.get("signature") or next(iter(self.model.signatures))
        self.signature = self.model.signatures[self.name]
        self.inputs = self.good_inputs()

    def good_inputs(self):
        """Return the inputs as a worker passes them: read-only views of a frame's bytes."""
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

    def same(self, name, one, two):
        assert one.shape == two.shape and one.dtype == two.dtype, (name, one.shape, one.dtype, two.shape, two.dtype)
        if one.dtype.kind == "f":
            tolerance = self.case.get("tolerance", 1e-4)
            np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance, err_msg=name)
        else:
            assert np.array_equal(one, two), name


def is_sentence(text):
    """Check that the text is one line for people, without a path, an address, a traceback or an exception's name."""
    assert text.strip() and "\n" not in text, repr(text)
    for pattern in (r"(^|[\s'\"(:])/\w[\w.+-]*/", r"0x[0-9a-f]{6}", r"Traceback", r"\.(py|cc|cpp|h)\b", r"\w+Error: "):
        assert not re.search(pattern, text), "not for a client: %r" % text
