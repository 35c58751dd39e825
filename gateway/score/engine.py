"""Where batches are scored: by a worker of this process, or by processes of a cluster."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa

from gateway.embedded.model import Model
from gateway.embedded.options import ModelSpec
from gateway.score.scorer import Scored, ScoreOptions, Scorer, Submitted


class Pending(Protocol):
    """A batch that is being scored."""

    def result(self) -> Scored:
        """Wait for it. Raises CannotScore, ModelportError."""

    def cancel(self) -> None:
        """Nobody needs the result any more."""


class Engine(Protocol):
    @property
    def in_flight(self) -> int:
        """How many batches there should be at a time, so that no worker waits for the next one."""

    def submit(self, batch: pa.RecordBatch) -> Pending:
        """Begin to score a batch. All batches have the input's schema."""


# Takes what is to be scored: the model, and how columns become inputs. Raises CannotScore.
OpenEngine = Callable[[ModelSpec, ScoreOptions], AbstractContextManager[Engine]]


class LocalEngine:
    def __init__(self, model: Model, scorer: Scorer) -> None:
        self._scorer = scorer
        self.in_flight = 2 * model.instances

    def submit(self, batch: pa.RecordBatch) -> Submitted:
        return self._scorer.submit(batch)
