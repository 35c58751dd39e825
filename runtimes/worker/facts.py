"""What a worker says of itself in its READY frame, and again when one of these facts changes."""

from typing import Dict, NamedTuple

from runtimes.contract import Signature
from runtimes.control import Ready
from runtimes.worker.batcher import Batching


class Facts(NamedTuple):
    """
    signatures  as clients see them: with any number of rows where declared batch sizes are filled up
    fixed       the same as the artifact has them: what a request meets where it runs by itself
    pipelined   whether two batches can be under way
    reason      why batching is off, for a metric: declared, state, shape, graph, trial, rows or audit; "" if it is on
    note        a sentence about batching, for the log and the model's configuration
    """

    signatures: Dict[str, Signature]
    fixed: Dict[str, Signature]
    pipelined: bool
    batching: Batching
    reason: str
    note: str

    def without_batching(self, reason: str, note: str) -> "Facts":
        off = Batching(target=self.batching.target)
        return self._replace(signatures=self.fixed, batching=off, reason=reason, note=note)

    def ready(self) -> Ready:
        rows = self.batching.max_rows
        # Fronts count the rows of the default signature only.
        counted = next(iter(self.signatures)) in self.batching.signatures
        return Ready(
            signatures=self.signatures,
            max_batch_size=rows if counted else 0,
            # One batch runs and the next gathers; of a pipelined model, two are under way.
            window=(3 if self.pipelined else 2) * max(rows, 1),
            batching_off=self.reason,
            note=self.note,
        )
