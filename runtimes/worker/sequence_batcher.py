"""Decides which requests of which sequences run next, together: at most one of each sequence, in order."""

from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.context import unpack_context
from runtimes.contract import SequenceControl
from runtimes.fair_order import level_and_flow
from runtimes.request_frames import RequestGroup
from runtimes.worker.batcher import Batcher, Batching
from runtimes.worker.pending import Batch, Pending, PendingGroup
from runtimes.worker.results import Failure, Outcome
from runtimes.worker.sequence_model import SequenceModel
from runtimes.worker.sequences import SequenceId, Sequences

_NO_SEQUENCE = SequenceControl("")


class _Waiting(NamedTuple):
    """A request that waits. level: its priority. arrival: its position among all that came."""

    level: int
    arrival: int
    deadline: float
    control: SequenceControl
    group: PendingGroup

    def is_of(self, source: Any, request_id: int) -> bool:
        return self.group.source is source and self.group.ids[0] == request_id


class SequenceBatcher(Batcher):
    """The waiting requests of each sequence, oldest first.

    A request that starts a sequence waits while there are as many sequences as there may be. It keeps none waiting
    but those behind it in its own sequence.

    name: of the model. delay: seconds that a request may wait for those of other sequences. slots: whether a batch has
    a row for each sequence anyway.
    """

    def __init__(self, batching: Batching, sequences: Sequences, name: str, delay: float, slots: bool) -> None:
        self._lanes: Dict[SequenceId, Deque[_Waiting]] = {}
        self._running: Dict[Tuple[Any, int], SequenceControl] = {}
        self._sequences, self._name, self._delay = sequences, name, delay
        self._slots = slots
        self._arrivals = 0
        self._began = 0.0  # when the newest batch began
        self._blind_s = 0.0  # how long it ran; what arrived meanwhile was not read
        super().__init__(batching)

    def reconfigure(self, batching: Batching) -> None:
        super().reconfigure(batching)
        for lane in self._lanes.values():
            for index, each in enumerate(lane):
                unit, key = self._unit_and_key(each.group.requests.inputs.layout)
                lane[index] = each._replace(group=each.group.counted(unit, each.group.key and key))

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def add(self, source: Any, requests: RequestGroup, isolated: bool, now: float) -> None:
        unit, key = self._unit_and_key(requests.inputs.layout)
        for member, (deadline, priority) in enumerate(zip(requests.deadlines, requests.priorities)):
            context = requests.contexts[member] if requests.contexts else b""
            control = unpack_context(context).sequence or _NO_SEQUENCE
            group = PendingGroup(source, requests, member, member + 1, now, unit, None if isolated else key)
            self._arrivals += 1
            self._note_use(control.id, now)
            waiting = _Waiting(level_and_flow(priority)[0], self._arrivals, deadline, control, group)
            self._lanes.setdefault(control.id, deque()).append(waiting)

    def _note_use(self, key: SequenceId, now: float) -> None:
        """Note that a sequence has got a request, which is too late if it has been idle."""
        sequence = self._sequences.get(key)
        if sequence is None:
            return
        if key not in self._lanes and self._sequences.is_idle(sequence, now - self._blind_s):
            self._sequences.end(key)
        else:
            sequence.used = now

    def cancel(self, source: Any, request_id: int) -> bool:
        return bool(self._remove(lambda waiting: waiting.is_of(source, request_id)))

    def end(self, sequence: SequenceId) -> None:
        """End a sequence if it runs."""
        if self._sequences.get(sequence) is not None:
            self._sequences.end(sequence)

    def drop_source(self, source: Any) -> None:
        self._remove(lambda waiting: waiting.group.source is source)

    def take_expired(self, now: float) -> List[Pending]:
        return self._remove(lambda waiting: waiting.deadline <= now)

    def take_refused(self, now: float) -> List[Tuple[Pending, Failure]]:
        """Remove and return the requests of sequences that do not run and do not start, with the reason.

        Idle sequences end here, and those that wait for room begin.
        """
        sequences = self._sequences
        for key in self._lanes:
            sequence = sequences.get(key)
            if sequence is not None:
                sequence.used = now  # a request waits, so it is not idle
        sequences.end_idle(now)
        refused: List[Tuple[Pending, Failure]] = []
        for key in [waiting.control.id for waiting in self._heads()]:
            lane = self._lanes[key]
            if sequences.get(key) is None:
                while lane and not lane[0].control.start:
                    refused.append((lane.popleft().group.pendings()[0], self._unknown(key)))
                if lane:
                    sequences.begin(key, now)
                else:
                    del self._lanes[key]
        return refused

    def _unknown(self, key: SequenceId) -> Failure:
        """Return Triton's sentence, whose words clients may know, and what else may have happened."""
        if key == "":
            return Failure("invalid", "the request names no sequence, and model '%s' needs one" % self._name)
        message = (
            "inference request for sequence %s to model '%s' must specify the START flag on the first request of the "
            "sequence; it has not started, has ended, or had no request for %g s"
        )
        return Failure("invalid", message % (key, self._name, self._sequences.idle_timeout))

    def next(self, now: float) -> Tuple[Optional[Batch], Optional[float]]:
        ready = [waiting for waiting in self._heads() if self._sequences.get(waiting.control.id) is not None]
        if not ready:
            return None, self._until_next(now) if self._lanes else None
        first = ready[0]
        if first.group.key is None:
            return self._take([first], now), None
        chosen = [waiting for waiting in ready if waiting.group.key == first.group.key]
        if not self._slots:
            chosen = chosen[: max(1, self._sizing.choose_rows(first.group.key))]
        could_come = min(len(self._sequences), self.batching.max_rows)
        oldest = min([waiting.group.arrived for waiting in chosen])
        if self._delay and len(chosen) < could_come and oldest + self._delay > now:
            return None, oldest + self._delay - now
        return self._take(chosen, now), None

    def _until_next(self, now: float) -> float:
        """Return the seconds until a sequence may end, or a request expires, if no requests come."""
        deadlines = [waiting.deadline for lane in self._lanes.values() for waiting in lane]
        return max(0.001, min(self._sequences.next_idle(), *deadlines) - now)

    def _heads(self) -> List[_Waiting]:
        return sorted([lane[0] for lane in self._lanes.values()], key=lambda waiting: waiting[:2])

    def _take(self, chosen: Sequence[_Waiting], now: float) -> Batch:
        self._began = now
        for waiting in chosen:
            key = waiting.control.id
            lane = self._lanes[key]
            lane.popleft()
            if not lane:
                del self._lanes[key]
            self._sequences[key].busy = True
            self._running[waiting.group.source, waiting.group.ids[0]] = waiting.control
        return Batch([waiting.group for waiting in chosen])

    def settle(self, batch: Batch, outcomes: Sequence[Outcome], now: float) -> None:
        """Note how the requests of a batch have ended.

        A request that fails leaves its sequence as it was before. If it was to start one, there is none.
        """
        self._blind_s = now - self._began
        for pending, outcome in zip(batch, outcomes):
            control = self._running.pop((pending.source, pending.id))
            succeeded = not isinstance(outcome, Failure)
            self._sequences[control.id].settle(succeeded, now)
            if control.end if succeeded else control.start:
                self._sequences.end(control.id)

    def has_full_batch(self) -> bool:
        return False

    def fits_at_once(self, requests: RequestGroup, now: float) -> Optional[Tuple[int, Any]]:
        return None

    def _remove(self, is_gone: Any) -> List[Pending]:
        removed: List[Pending] = []
        for key, lane in list(self._lanes.items()):
            gone = [waiting for waiting in lane if is_gone(waiting)]
            if gone:
                removed += [waiting.group.pendings()[0] for waiting in gone]
                if any([waiting.control.start for waiting in gone]) and self._sequences.get(key) is not None:
                    # Later requests of the client are meant for the sequence that did not start, not for an old one.
                    self._sequences.end(key)
                kept = deque([waiting for waiting in lane if waiting not in gone])
                if kept:
                    self._lanes[key] = kept
                else:
                    del self._lanes[key]
        return removed


def batcher_of(model: SequenceModel, batching: Batching) -> SequenceBatcher:
    """Return the batcher for a model of sequences."""
    return SequenceBatcher(batching, model.sequences, model.name, model.options.delay, model.has_slots)
