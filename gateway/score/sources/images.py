"""Folders of images: a row is a file. [preprocess] of model.toml decodes them, as for clients of a gateway."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from gateway.codecs.images import File, image_tensor
from gateway.domain.default_limits import MAX_BODY_BYTES
from gateway.domain.image_processing import Preprocess
from gateway.errors import InvalidRequest, ModelportError
from gateway.process.cores import available_cores
from gateway.score.errors import CannotScore
from gateway.score.output_columns import fixed_type, to_column
from gateway.score.sources.source import BadInput, Chunk, label
from runtimes.contract import TensorSpec
from runtimes.tensors import to_array

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
# Files that are decoded ahead, for each core.
_AHEAD = 4


class ImagesSource:
    """root: what the names of files are relative to. preprocess: None if the model decodes images itself."""

    def __init__(self, files: Sequence[Path], root: Path, spec: TensorSpec, preprocess: Preprocess | None) -> None:
        """Raises CannotScore."""
        if preprocess is None and spec.datatype != "BYTES":
            raise CannotScore("the model does not accept images; add [preprocess] to its model.toml")
        self._files, self._root, self._preprocess = files, root, preprocess
        self._name, self._datatype = spec.name, spec.datatype or "FP32"
        kind = fixed_type(self._datatype, () if preprocess is None else preprocess.shape(1)[1:])
        self.schema = pa.schema([("file", pa.string()), (spec.name, kind)])
        self.rows = self.size = len(files)

    def chunks(self, start: int, rows: int) -> Iterator[Chunk]:
        decoded = self._decoded(start)
        while read := list(islice(decoded, rows)):
            end, bad = start + len(read), list[BadInput]()
            numbers, names, images = list[int](), list[str](), list[np.ndarray | bytes]()
            for number, image in enumerate(read, start):
                name = label(self._files[number], self._root)
                if isinstance(image, InvalidRequest):
                    bad.append(BadInput(number, str(image), name))
                else:
                    numbers.append(number)
                    names.append(name)
                    images.append(image)
            batch = pa.record_batch([pa.array(names, pa.string()), self._column(images)], schema=self.schema)
            yield Chunk(start, end, batch, numbers, bad, "", end)
            start = end

    def _column(self, images: list["np.ndarray | bytes"]) -> pa.Array:
        kind = self.schema.field(1).type
        if self._preprocess is None or not images:
            return pa.array(images, kind)
        return to_column(np.stack([each for each in images if isinstance(each, np.ndarray)]), kind)

    def _decoded(self, start: int) -> "Iterator[np.ndarray | bytes | InvalidRequest]":
        cores = available_cores()
        with ThreadPoolExecutor(cores) as pool:
            ahead: deque[Future[np.ndarray | bytes | InvalidRequest]] = deque()
            try:
                for file in self._files[start:]:
                    ahead.append(pool.submit(self._decode, file))
                    if len(ahead) >= _AHEAD * cores:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for each in ahead:
                    each.cancel()

    def _decode(self, file: Path) -> "np.ndarray | bytes | InvalidRequest":
        try:
            data = file.read_bytes()
            if self._preprocess is None:
                return data
            tensor = image_tensor(
                [File("the image", data)], self._preprocess, self._name, self._datatype, MAX_BODY_BYTES
            )
            return np.array(to_array(tensor)[0])
        except OSError as error:
            return InvalidRequest(f"the file cannot be read: {error.strerror}")
        except ModelportError as error:
            return InvalidRequest(str(error))
