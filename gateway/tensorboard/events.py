"""Writes event files. tensorboardX's SummaryWriter is not used, since its thread ends silently if a disk is full."""

import importlib.util
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXTRA = "pip install 'modelport[tensorboard]'"


def available() -> bool:
    """Return whether tensorboardX is installed, without importing it."""
    return importlib.util.find_spec("tensorboardX") is not None


class EventFile:
    """One event file in the folder of a run, which is created. What is written can be read after `flush`.

    Raises OSError.
    """

    def __init__(self, run: Path, suffix: str = "") -> None:
        from tensorboardX.event_file_writer import EventsWriter

        run.mkdir(parents=True, exist_ok=True)
        self.written = 0  # bytes, without what the format adds to each event
        self._writer = EventsWriter(str(run / "events"), suffix)
        # The writer makes the name from the time and the host.
        self.path = Path(self._writer._file_name)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write a point of each tag."""
        from tensorboardX.proto.summary_pb2 import Summary

        self._write(
            summary=Summary(value=[Summary.Value(tag=tag, simple_value=each) for tag, each in values.items()]),
            step=step,
        )

    def text(self, tag: str, markdown: str) -> None:
        from tensorboardX.summary import text

        self._write(summary=text(tag, markdown))

    def parameters(self, values: Mapping[str, float], metrics: Mapping[str, float]) -> None:
        """Write what the HParams page compares runs by. metrics: tags of scalars that this run has."""
        from tensorboardX.summary import hparams

        for summary in hparams(dict(values), dict(metrics)):
            self._write(summary=summary)

    def graph(self, graph: bytes) -> None:
        """Write a serialized GraphDef."""
        self._write(graph_def=graph)

    def run_metadata(self, tag: str, metadata: bytes) -> None:
        """Write a serialized RunMetadata, which the Graphs page offers under this tag."""
        from tensorboardX.proto.event_pb2 import TaggedRunMetadata

        self._write(tagged_run_metadata=TaggedRunMetadata(tag=tag, run_metadata=metadata))

    def flush(self) -> None:
        # The writer's own flush also waits until the disk has the data, which takes milliseconds each time.
        self._writer._py_recordio_writer._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write(self, step: int = 0, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), step=step, **what)
        self.written += event.ByteSize()
        self._writer.write_event(event)
