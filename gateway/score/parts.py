"""The folder in which a run keeps what it has finished, so that another one continues there.

Next to the output OUT, the folder OUT.parts has three files for each part: part-START.arrow with the rows that were
scored, part-START.bad.jsonl with the bad ones (each is absent if there are none), and part-START.json with the counts.
That last file makes the part count. Parts follow each other without a gap. manifest.json says what they are parts of.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import orjson
import pyarrow as pa

from gateway.score.errors import CannotScore
from gateway.score.sources.source import BadInput


class Part(NamedTuple):
    """Rows from `start` up to `end` of the input: `scored + bad == end - start`."""

    start: int
    end: int
    scored: int
    bad: int


class Parts:
    """identity: name of what was scored → its value; all values are JSON. Use it as a context manager."""

    def __init__(self, output: Path, identity: Mapping[str, Any], restart: bool) -> None:
        """Raises CannotScore if there are parts of something else, or another process writes them."""
        self.folder = folder_of_parts(output)
        manifest = self.folder / "manifest.json"
        try:
            self._lock = _lock(self.folder)
        except BlockingIOError:
            raise CannotScore(f"another process writes {output} now; wait for it, or choose another --output") from None
        except OSError as error:
            raise CannotScore(f"{self.folder} cannot be written: {error.strerror}") from None
        try:
            if restart or not manifest.exists() or not any(self.folder.glob("part-*.json")):
                self._clear()
                _replace(manifest, lambda file: file.write(orjson.dumps(identity)))
            self._check(json.loads(manifest.read_text()), dict(identity))
            self.done = self._read()
        except OSError as error:
            self._lock.close()
            raise CannotScore(f"{self.folder} cannot be written: {error.strerror}") from None
        except BaseException:
            self._lock.close()
            raise

    @property
    def end(self) -> int:
        """The first row that is in no part yet."""
        return self.done[-1].end if self.done else 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield what was scored, in order."""
        for part in self.done:
            if part.scored:
                with pa.memory_map(str(self._file(part.start, "arrow"))) as mapped, pa.ipc.open_file(mapped) as reader:
                    yield from (reader.get_batch(number) for number in range(reader.num_record_batches))

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of what was scored; None if nothing was."""
        for part in self.done:
            if part.scored:
                with pa.memory_map(str(self._file(part.start, "arrow"))) as mapped, pa.ipc.open_file(mapped) as reader:
                    return reader.schema
        return None

    def bad(self) -> Iterator[bytes]:
        """Yield the lines about bad rows, in order."""
        for part in self.done:
            if part.bad:
                with self._file(part.start, "bad.jsonl").open("rb") as lines:
                    yield from lines

    def new_part(self) -> "PartWriter":
        return PartWriter(self, self.end)

    def remove(self) -> None:
        """Forget all parts: the output is complete, or there are none."""
        with suppress(OSError):
            (self.folder / "manifest.json").unlink()  # if the rest is interrupted, what is left counts for nothing
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not self.done:
            self.remove()
        self._lock.close()

    def _file(self, start: int, suffix: str) -> Path:
        return self.folder / f"part-{start:012}.{suffix}"

    def _clear(self) -> None:
        for file in self.folder.iterdir():
            if file.name != "lock":
                file.unlink()

    def _check(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [key for key in now if before.get(key) != json.loads(json.dumps(now[key]))]
        if changed:
            have = "have" if len(changed) > 1 else "has"
            raise CannotScore(
                f"{self.folder} has what an earlier run has finished, but {' and '.join(changed)} {have} changed "
                "since; add --restart to score everything again"
            )

    def _read(self) -> list[Part]:
        done = list[Part]()
        for file in sorted(self.folder.glob("part-*.json")):
            part = Part(**json.loads(file.read_text()))
            if part.start != (done[-1].end if done else 0):
                raise CannotScore(
                    f"{self.folder} lacks the part before {file.name}; add --restart to score everything again"
                )
            done.append(part)
        return done


def folder_of_parts(output: Path) -> Path:
    return output.with_name(output.name + ".parts")


def _lock(folder: Path) -> IO[str]:
    """Return the lock of the folder, which is made if necessary. Raises BlockingIOError if another process has it."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = (folder / "lock").open("w")
        except FileNotFoundError:  # the run that had it has just removed the folder
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock.fileno()), (folder / "lock").stat()):
                return lock
        except FileNotFoundError:  # likewise, after it was opened
            pass
        except BaseException:
            lock.close()
            raise
        lock.close()


class PartWriter:
    """Writes a part that begins at row `start`. Nothing of it counts before `commit`."""

    def __init__(self, parts: Parts, start: int) -> None:
        self._parts, self.start, self.end = parts, start, start
        self._scored = 0
        self._is_whole = False
        self._bad = list[BadInput]()
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchFileWriter | None = None

    @property
    def rows(self) -> int:
        return self.end - self.start

    def add(self, end: int, batch: pa.RecordBatch, bad: list[BadInput]) -> None:
        """Add the rows up to `end`: those that were scored, and the others."""
        assert batch.num_rows + len(bad) == end - self.end
        self._is_whole = False
        if batch.num_rows:
            if self._writer is None:
                self._file = self._draft("arrow").open("wb")
                self._writer = pa.ipc.new_file(self._file, batch.schema)
            self._writer.write_batch(batch)
        self._scored += batch.num_rows
        self._bad += bad
        self.end = end
        self._is_whole = True

    def commit(self) -> None:
        """Make the part count, unless it is empty or `add` was interrupted."""
        if not self._is_whole:
            return
        part = Part(self.start, self.end, self._scored, len(self._bad))
        if self._writer is not None and self._file is not None:
            self._writer.close()
            _sync(self._file)
            self._file.close()
            self._draft("arrow").replace(self._parts._file(self.start, "arrow"))
        if self._bad:
            lines = b"".join(map(_line, self._bad))
            _replace(self._parts._file(self.start, "bad.jsonl"), lambda file: file.write(lines))
        _replace(self._parts._file(self.start, "json"), lambda file: file.write(orjson.dumps(part._asdict())))
        self._parts.done.append(part)

    def close(self) -> None:
        """Close the file, whatever became of the part."""
        if self._file is not None:
            with suppress(OSError):  # a full disk, about which `add` or `commit` has raised an error
                self._file.close()

    def _draft(self, suffix: str) -> Path:
        return self._parts.folder / f"draft-{self.start:012}.{suffix}"


def _line(bad: BadInput) -> bytes:
    return orjson.dumps({key: value for key, value in bad._asdict().items() if value != ""}) + b"\n"


def _replace(path: Path, write: Any) -> None:
    """Write a file so that it appears as a whole."""
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        write(file)
        _sync(file)
    draft.replace(path)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
