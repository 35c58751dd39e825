"""A model around another one."""

from typing import Dict, Optional, Sequence

import numpy as np

from runtimes.contract import BatchAnalysis, InputRange, Model


class Wrapped(Model):
    """Is of the same kind as the runtime's model, `_model`. What runs requests is for subclasses to define."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.signatures = model.signatures
        self.pipelined, self.decoupled = model.pipelined, model.decoupled
        self.takes_requests, self.sends_answers = model.takes_requests, model.sends_answers
        self.calls_models, self.execution = model.calls_models, model.execution

    def analyze_batch(self, signature: str) -> Optional[BatchAnalysis]:
        return self._model.analyze_batch(signature)

    def input_ranges(self, signature: str) -> Dict[str, InputRange]:
        return self._model.input_ranges(signature)

    def empty(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        return self._model.empty(shape, dtype)

    def close(self) -> None:
        self._model.close()
