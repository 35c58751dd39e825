"""Runs runtimes/task.py in an environment: an artifact over files of inputs, or one step of a conversion."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import runtimes
from gateway.environments.environment import Environment
from gateway.environments.subprocesses import run_module
from gateway.export.errors import CannotExport
from gateway.process.child import clean_environment
from gateway.process.cores import available_cores
from runtimes.redaction import redacted

_TASK = Path(runtimes.__file__).parent / "task.py"
_SHOWN_LINES = 20


class Failed(CannotExport):
    """A tool failed: its error message and its last lines. `advice`: what the user can do about it."""

    def __init__(self, sentence: str, detail: str = "", advice: str = "") -> None:
        super().__init__(sentence, detail)
        self.advice = advice


class Tasks:
    """The tasks of one export, in its folder. on_line gets what they print."""

    def __init__(self, folder: Path, on_line: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_line = on_line
        self._count = 0

    async def run(self, environment: Environment, job: Mapping[str, Any]) -> dict[str, Any]:
        """The task's answer. Raises Failed. When this is cancelled, the task and all that it started are killed."""
        self._count += 1
        order, answer = (self._folder / f"task-{self._count}.{kind}.json" for kind in ("job", "answer"))
        order.write_text(json.dumps({**job, "answer": str(answer)}))
        said: deque[str] = deque(maxlen=_SHOWN_LINES)

        def on_line(line: str) -> None:
            # A progress bar writes one line over and over.
            line = line.rsplit("\r", 1)[-1]
            said.append(line)
            self._on_line(line)

        variables, scratch = self._variables(environment), self._folder / "scratch"
        scratch.mkdir(exist_ok=True)
        code = await run_module(environment.python, str(_TASK), [str(order)], on_line, variables, scratch)
        detail = "\n".join(said)
        try:
            told: dict[str, Any] = json.loads(answer.read_text())
        except FileNotFoundError:
            raise Failed(
                f"it was killed by signal {-code}" if code < 0 else f"it ended with code {code}", detail
            ) from None
        if "failed" in told:
            raise Failed(redacted(str(told["failed"])), detail)
        return told

    def folder(self, name: str) -> Path:
        """A new folder for a task's files."""
        self._count += 1
        made = self._folder / f"files-{self._count} {name}"
        made.mkdir()
        return made

    def _variables(self, environment: Environment) -> dict[str, str]:
        threads = str(available_cores())
        variables = clean_environment()
        variables.setdefault("HOME", str(self._folder))
        variables["OMP_NUM_THREADS"] = threads
        # Converters leave files in the current folder and in the temporary one.
        variables["TMPDIR"] = str(self._folder / "scratch")
        variables["CUDA_VISIBLE_DEVICES"] = ""
        own = environment.runtime.env.items()
        return variables | {key: value.replace("{threads}", threads) for key, value in own}
