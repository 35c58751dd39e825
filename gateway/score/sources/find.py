"""Finds the files of an input, and what reads them."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gateway.domain.image_processing import Preprocess
from gateway.score.errors import CannotScore
from gateway.score.sources.arrays import ArraysSource
from gateway.score.sources.csv_text import CsvSource
from gateway.score.sources.images import SUFFIXES as IMAGES
from gateway.score.sources.images import ImagesSource
from gateway.score.sources.json_lines import JsonLinesSource
from gateway.score.sources.parquet import ArrowSource, ParquetSource
from gateway.score.sources.source import Source, cannot_read, folder_of
from runtimes.contract import Signature

_READERS: dict[str, Callable[[Sequence[Path]], Source]] = {
    ".parquet": ParquetSource,
    ".arrow": ArrowSource,
    ".feather": ArrowSource,
    ".csv": CsvSource,
    ".tsv": lambda files: CsvSource(files, "\t"),
    ".jsonl": JsonLinesSource,
    ".ndjson": JsonLinesSource,
    ".npy": lambda files: _arrays(files),
    ".npz": lambda files: _arrays(files),
}


def find_files(inputs: Sequence[str], written: Sequence[Path] = ()) -> tuple[list[Path], Path]:
    """Return the files that paths, patterns and folders name, in order, and the folder that they are in.

    Of a folder, these are the files of one kind that are in it, however deep. What the run writes is not among those
    of a folder or pattern, so that a run can continue, and an output may be next to the input.

    written  files and folders that the run writes

    Raises CannotScore.
    """
    files, own = list[Path](), {os.path.abspath(each) for each in written}

    def is_input(file: Path) -> bool:
        path = Path(os.path.abspath(file))
        return own.isdisjoint(map(str, (path, *path.parents)))

    for text in inputs:
        path = Path(os.path.expanduser(text))  # Path.expanduser raises errors for users that do not exist
        if os.path.isdir(path):
            files += _in(path, is_input)
        elif os.path.exists(path):
            if not is_input(path):
                raise CannotScore(f"{text} is an input, and would be written; choose another --output or --bad")
            files.append(path)
        else:
            matching = map(Path, glob.glob(str(path), recursive=True))
            found = sorted(each for each in matching if _is_entry(each) and is_input(each))
            if not found:
                raise CannotScore(f"{text} does not exist")
            files += found
    kinds = {_kind(file) for file in files}
    if "" in kinds:
        file = next(file for file in files if not _kind(file))
        raise CannotScore(f"{file} is of no known kind; there are {', '.join([*_READERS, 'and images'])}")
    if len(kinds) > 1:
        raise CannotScore(f"the input has files of several kinds ({', '.join(sorted(kinds))}); score each on its own")
    only = Path(os.path.expanduser(inputs[0]))
    return files, only if len(inputs) == 1 and os.path.isdir(only) else folder_of(files)


def open_source(files: Sequence[Path], root: Path, signature: Signature, preprocess: Preprocess | None) -> Source:
    """Return what reads the files, which are of one kind. Raises CannotScore."""
    if _kind(files[0]) != "image":
        return _READERS[_kind(files[0])](files)
    only = signature.only_input()
    if only is None:
        raise CannotScore("the model has several inputs, so it does not accept images alone; score a table of them")
    return ImagesSource(files, root, only, preprocess)


def _arrays(files: Sequence[Path]) -> ArraysSource:
    if len(files) > 1:
        raise CannotScore("there are several files of arrays; score each on its own")
    return ArraysSource(files[0])


def _in(folder: Path, is_input: Callable[[Path], bool]) -> Iterator[Path]:
    files = sorted(each for each in _below(folder) if _is_entry(each) and not each.name.startswith((".", "_")))
    known = [file for file in files if _kind(file) and is_input(file)]
    if not known:
        raise CannotScore(f"{folder} has no files of a known kind: {', '.join([*_READERS, 'and images'])}")
    yield from known


def _below(folder: Path) -> Iterator[Path]:
    """Yield all that is in a folder, however deep. Raises CannotScore rather than leave out what cannot be read."""

    def stop(error: OSError) -> None:
        raise cannot_read(Path(error.filename), error)

    for path, folders, names in os.walk(folder, onerror=stop):
        links = (name for name in folders if os.path.islink(os.path.join(path, name)))
        yield from (Path(path, name) for name in (*links, *names))


def _is_entry(path: Path) -> bool:
    """Return whether it is a file, or a link to what is not there: that is an input which cannot be read."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    return "image" if suffix in IMAGES else suffix if suffix in _READERS else ""
