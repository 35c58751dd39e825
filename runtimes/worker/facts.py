"""What a worker reports in its READY frame, and again when it changes."""

from typing import Dict, NamedTuple

from runtimes.contract import Signature
from runtimes.control import Ready
from runtimes.worker.batcher import Batching

# How many requests a front may have in progress at a decoupled model. Each holds its place until its client has read
# all answers, so with fewer, slow clients would keep others waiting; with more, their unread answers take more memory.
_MAX_STREAMS = 64


class Facts(NamedTuple):
    """What the supervisor needs to know about a loaded model.

    signatures     as clients see them: with any number of rows if batches are padded to declared sizes
    fixed          as the artifact has them, which is what clients see when batching is off
    pipelined      whether two batches can be in progress
    reason         why batching is off, for a metric: declared, state, decoupled, shape, graph, trial, rows or audit; ""
                   if it is on
    note           a sentence about batching, for the log and the model's configuration
    decoupled      whether a request gets any number of answers
    takes_context  as in Ready
    calls_models, varies, execution  likewise
    """

    signatures: Dict[str, Signature]
    fixed: Dict[str, Signature]
    pipelined: bool
    batching: Batching
    reason: str
    note: str
    decoupled: bool = False
    takes_context: bool = False
    calls_models: bool = False
    varies: str = ""
    execution: str = ""

    def without_batching(self, reason: str, note: str) -> "Facts":
        """Return the facts after batching was switched off."""
        off = Batching(target=self.batching.target)
        return self._replace(signatures=self.fixed, batching=off, reason=reason, note=note)

    def ready(self) -> Ready:
        """Return the body of the READY frame."""
        rows = self.batching.max_rows
        # Fronts count the rows of the default signature only.
        counted = next(iter(self.signatures)) in self.batching.signatures
        return Ready(
            signatures=self.signatures,
            max_batch_size=rows if counted else 0,
            # One batch runs while the next one collects. In a pipelined model, two run.
            window=_MAX_STREAMS if self.decoupled else (3 if self.pipelined else 2) * max(rows, 1),
            batching_off=self.reason,
            note=self.note,
            decoupled=self.decoupled,
            takes_context=self.takes_context,
            calls_models=self.calls_models,
            varies=self.varies,
            batched=tuple(sorted(self.batching.signatures)),
            execution=self.execution,
        )
