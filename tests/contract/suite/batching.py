"""Checks of what the graph analysis finds, and of batches."""

import numpy as np

from .model import TestedModel
from runtimes.contract import BatchAnalysis
from runtimes.control import BatchingOptions
from runtimes.worker import batching_decision


class BatchingChecks(TestedModel):
    def check_batch_analysis(self):
        """The graph analysis finds what the case says, and never calls dependent rows independent."""
        found = self.model.analyze_batch(self.name)
        assert found is None or isinstance(found, BatchAnalysis), found
        independent = found is not None and found.independent
        assert not (independent and (self.case.get("not_batchable") or self.case.get("stateful"))), found
        analyses = dict(self.case.get("analyses", {}))
        if "analysis" in self.case:
            analyses[self.name] = self.case["analysis"]
        for name, expected in analyses.items():
            found = self.model.analyze_batch(name)
            if expected == "independent":
                assert found.independent, (name, found)
            else:
                for kind, words in expected.items():
                    assert any(words in reason for reason in getattr(found, kind)), (name, found)

    def check_input_ranges(self):
        """The input ranges that are read from the graph are those in the case."""
        found = self.model.input_ranges(self.name)
        assert set(found) <= set(self.inputs), found
        if "ranges" in self.case:
            assert {name: list(each[:3]) for name, each in found.items()} == self.case["ranges"], found

    def check_settled(self):
        """Deciding about batching at load runs no signature that changes the model's state."""
        if "writing" not in self.case:
            return
        decision = batching_decision.decide_batching(self.model, BatchingOptions())
        assert sorted(decision.stateful) == sorted(self.case["writing"]), decision
        assert decision.batching.signatures == {self.name}, decision
        self.check_infer()  # type: ignore[attr-defined]

    def check_batches(self):
        """If every first dimension is dynamic, rows are independent: f(a‖b) = f(a)‖f(b)."""
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
        """Two concurrent batches are answered as if they ran one after the other."""
        if not self.model.pipelined:
            return
        expected = self.infer()
        handles = [self.model.start(self.inputs, [], self.name) for _ in range(2)]
        for answer in [self.model.finish(handle) for handle in handles]:
            assert list(answer) == list(expected), list(answer)
            for name in expected if not self.case.get("stateful") else ():
                self.same(name, answer[name], expected[name])
