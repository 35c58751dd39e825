"""Replaces a session of OpenVINO's execution provider after a failed run.

After such a run, it may return the output of an earlier one, and so the answer to another request, if the shapes are
the same again.
"""

import os
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import numpy as np

from runtimes.contract import DeviceLost, LoadOptions

from .direct import Run
from .private import private_copy


class Renewed:
    """Runs a session, and another one from the next run on if a run has failed."""

    def __init__(self, run: Run, create: Callable[[], Run]) -> None:
        self._run: Optional[Run] = run
        self._create = create

    def __call__(self, outputs: Sequence[str], feed: Dict[str, np.ndarray], options: Any) -> List[Any]:
        run, self._run = self._run or self._create(), None
        results = run(outputs, feed, options)
        self._run = run
        return results


def renewed(run: Run, model: Union[str, bytes], options: LoadOptions, create: Callable[[Any], Run]) -> Renewed:
    """Return `run`, which `create` makes again of the model: of its bytes, or of its file.

    If the file has changed, DeviceLost ends the worker, since another one loads what is there now.
    """
    if isinstance(model, bytes):
        return Renewed(run, lambda: create(model))
    before = _state(options.artifact)

    def again() -> Run:
        try:
            if _state(options.artifact) == before:
                with private_copy(options.artifact) as path:
                    return create(path)
        except OSError:
            pass
        raise DeviceLost("a run of OpenVINO has failed, and the file that its session was made of has changed")

    return Renewed(run, again)


def _state(path: str) -> Any:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
