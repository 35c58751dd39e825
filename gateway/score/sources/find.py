"""Finds the files of an input, and what reads them."""

import glob
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
from gateway.score.sources.source import Source
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


def find_files(inputs: Sequence[str]) -> tuple[list[Path], Path]:
    """Return the files that paths, patterns and folders name, in order, and the folder that they are in.

    Of a folder, these are the files of one kind that are in it, however deep. Raises CannotScore.
    """
    files = list[Path]()
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            files += _in(path)
        elif path.exists():
            files.append(path)
        else:
            found = sorted(Path(each) for each in glob.glob(str(path), recursive=True) if Path(each).is_file())
            if not found:
                raise CannotScore(f"{text} does not exist")
            files += found
    kinds = {_kind(file) for file in files}
    if "" in kinds:
        file = next(file for file in files if not _kind(file))
        raise CannotScore(f"{file} is of no known kind; there are {', '.join([*_READERS, 'and images'])}")
    if len(kinds) > 1:
        raise CannotScore(f"the input has files of several kinds ({', '.join(sorted(kinds))}); score each on its own")
    only = Path(inputs[0]).expanduser()
    return files, only if len(inputs) == 1 and only.is_dir() else Path(*_common(files))


def open_source(files: Sequence[Path], root: Path, signature: Signature, preprocess: Preprocess | None) -> Source:
    """Return what reads the files, which are of one kind. Raises CannotScore."""
    if _kind(files[0]) != "image":
        return _READERS[_kind(files[0])](files)
    if len(signature.inputs) != 1:
        raise CannotScore("the model has several inputs, so it does not accept images alone; score a table of them")
    return ImagesSource(files, root, signature.inputs[0], preprocess)


def _arrays(files: Sequence[Path]) -> ArraysSource:
    if len(files) > 1:
        raise CannotScore("there are several files of arrays; score each on its own")
    return ArraysSource(files[0])


def _in(folder: Path) -> Iterator[Path]:
    files = sorted(each for each in folder.rglob("*") if each.is_file() and not each.name.startswith((".", "_")))
    known = [file for file in files if _kind(file)]
    if not known:
        raise CannotScore(f"{folder} has no files of a known kind: {', '.join([*_READERS, 'and images'])}")
    yield from known


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    return "image" if suffix in IMAGES else suffix if suffix in _READERS else ""


def _common(files: Sequence[Path]) -> tuple[str, ...]:
    parts = [file.parent.parts for file in files]
    first, last = min(parts), max(parts)
    count = next((at for at, part in enumerate(first) if at >= len(last) or part != last[at]), len(first))
    return first[:count]
