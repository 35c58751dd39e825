"""Runs runtimes/job.py in an environment: an artifact on files of inputs, or one step of a conversion."""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import runtimes
from gateway.environments.environment import Environment
from gateway.environments.runtime import Runtime
from gateway.environments.subprocesses import run_module
from gateway.export.errors import CannotExport
from gateway.process.child import clean_environment
from gateway.process.cores import available_cores
from runtimes.control import Load
from runtimes.redaction import redacted

_SCRIPT = Path(runtimes.__file__).parent / "job.py"
# Enough to hold a traceback's last frames and its message, and still fits a terminal.
_SHOWN_LINES = 20


class RouteFailed(CannotExport):
    """This route does not lead to an export; the next may. Holds the tool's error message and its last lines.

    advice  what the user can do about it; "" if nothing is known
    """

    def __init__(self, sentence: str, detail: str = "", advice: str = "") -> None:
        super().__init__(sentence, detail)
        self.advice = advice


class Jobs:
    """The jobs of one export, in its folder. `on_line` gets each line that they print."""

    def __init__(self, folder: Path, on_line: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_line = on_line
        self._count = 0

    async def run(self, environment: Environment, job: Mapping[str, Any], threads: int = 0) -> dict[str, Any]:
        """Return the job's answer. Raises RouteFailed. Cancellation kills the job and every process that it started.

        threads  how many the framework may start; 0: one for each core
        """
        self._count += 1
        order, answer_file = (self._folder / f"job-{self._count}.{kind}.json" for kind in ("order", "answer"))
        order.write_text(json.dumps({**job, "answer": str(answer_file)}))
        printed: deque[str] = deque(maxlen=_SHOWN_LINES)

        def on_line(line: str) -> None:
            # A progress bar overwrites its own line: keep only its last state.
            line = line.rsplit("\r", 1)[-1]
            printed.append(line)
            self._on_line(line)

        variables, scratch = self._variables(environment, threads or available_cores()), self._folder / "scratch"
        scratch.mkdir(exist_ok=True)
        code = await run_module(environment.python, str(_SCRIPT), [str(order)], on_line, variables, scratch)
        detail = "\n".join(printed)
        try:
            answer: dict[str, Any] = json.loads(answer_file.read_text())
        except FileNotFoundError:
            raise RouteFailed(
                f"it was killed by signal {-code}" if code < 0 else f"it ended with code {code}", detail
            ) from None
        if "failed" in answer:
            raise RouteFailed(redacted(str(answer["failed"])), detail)
        return answer

    def folder(self, name: str) -> Path:
        """Create a new folder for a job's files."""
        self._count += 1
        folder = self._folder / f"files-{self._count} {name}"
        folder.mkdir()
        return folder

    def _variables(self, environment: Environment, threads: int) -> dict[str, str]:
        variables = clean_environment()
        variables.setdefault("HOME", str(self._folder))
        variables["OMP_NUM_THREADS"] = str(threads)
        # Converters leave files in the current folder and in the temporary one.
        variables["TMPDIR"] = str(self._folder / "scratch")
        variables["CUDA_VISIBLE_DEVICES"] = ""
        own = environment.runtime.env.items()
        return variables | {key: value.replace("{threads}", str(threads)) for key, value in own}


class CasesJob(NamedTuple):
    """A run of an artifact on files of inputs: runtimes/offline.py describes each key.

    files    npz files of inputs; none: describe the model, and run nothing
    results  the folder for the outputs, in files of the same names
    shapes   input → shape for the description
    fixed    the number of rows that the artifact requires; 0 for any
    timed    a file of inputs whose inference is timed
    large    limit the time and the memory of the runs, because their integers are large
    fold     retry refused inputs with their integers modulo what the model accepts
    decide   describe how a worker would batch requests, too
    in_fp32  compute in FP32 what the model computes in FP16 or BF16, and round no output
    """

    load: Load
    signature: str = ""
    files: Sequence[Path] = ()
    results: Path | None = None
    shapes: Mapping[str, Sequence[int]] = MappingProxyType({})
    fixed: int = 0
    timed: Path | None = None
    fold: bool = False
    large: bool = False
    decide: bool = False
    in_fp32: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "action": "run_cases",
            "load": self.load.to_json(),
            "signature": self.signature,
            "cases": [str(file) for file in self.files],
            "results": str(self.results),
            "shapes": dict(self.shapes),
            "fold": self.fold,
            "large": self.large,
            "fixed": self.fixed,
            "timed": str(self.timed) if self.timed else "",
            "decide": self.decide,
            "in_fp32": self.in_fp32,
        }


def bare_load(runtime: Runtime, artifact: Path, threads: int, **parameters: Any) -> Load:
    """The LOAD frame for an artifact without a model.toml."""
    return Load(str(runtime.folder), str(artifact), threads=threads, parameters=parameters)
