"""Checks of what must be refused: requests, artifacts, outputs."""

import os

import numpy as np

from .arrays import fits, sent
from .model import TestedModel, is_sentence
from runtimes.contract import InvalidInput, LoadError, Unsupported


class RefusalChecks(TestedModel):
    def load_error(self):
        self.refuses_to_load(self.case["load_error"])

    def load_errors(self):
        """Several artifacts in one process: a file that made it run code would end it."""
        for artifact, words in self.case["load_errors"].items():
            self.artifact = os.path.join(self.folder, artifact)
            self.refuses_to_load(words)

    def refuses_to_load(self, words):
        try:
            self.runtime.load(self.options())
        except LoadError as error:
            sentence = str(error)
            if error.__cause__ is error:
                raise AssertionError("it is its own cause: whoever follows the causes never ends") from None
            if words is not True and words not in sentence:
                raise AssertionError("%r does not say %r" % (sentence, words)) from None
            return is_sentence(sentence)
        raise AssertionError("%s loaded" % os.path.basename(self.artifact))

    def fails(self):
        """Every request fails, and the client is not at fault."""
        for _ in range(2):
            failed = None
            try:
                self.infer()
            except Exception as error:
                failed = error
            assert type(failed).__name__ == self.case["fails"], repr(failed)

    def faults(self):
        """If another request would succeed, the error is the client's; if no request would, it is the model's."""
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

    def check_refused_outputs(self):
        """A request for an output that cannot be served or does not exist is the client's error."""
        left_out = self.case.get("left_out", [])
        assert not set(left_out) & set(self.infer()), "it is in the answer"
        refused = [name for name in self.signature.refused if name not in self.signature.json]
        for name in refused + left_out + ["no such output"]:
            self.refuses(None, [name], (InvalidInput, Unsupported))

    def check_missing_input(self):
        for name in set(self.inputs) - set(self.signature.optional):
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
        """A shape that does not fit is refused. If no shape is declared, it may also be answered."""
        for spec in self.signature.inputs:
            if spec.name not in self.inputs:  # it is optional
                continue
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
        """After all refused requests, good inputs are answered as before."""
        self.check_infer() if not self.case.get("stateful") else self.infer()  # type: ignore[attr-defined]
