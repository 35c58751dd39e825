"""What a person at a terminal sees while `modelport serve` runs: every model's state, and a line to try."""

import asyncio
import logging

from rich.console import Console
from rich.live import Live
from rich.logging import RichHandler

from gateway.commands.console import Row, screen, state_word
from gateway.domain.types import ModelStatus
from gateway.supervisor.supervisor import Supervisor
from runtimes.contract import kind_of

_REFRESH_S = 0.5
_MAX_HINT_LENGTH = 150
_FEW, _MANY = 8, 1000


class Face:
    """Everything that is written to the terminal goes through its console, so that log lines stay above the table."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def log_handler(self) -> logging.Handler:
        return RichHandler(console=self._console, show_path=False, log_time_format="%X", markup=False)

    async def run(self, supervisor: Supervisor, http: str) -> None:
        """The supervisor, with the table below its log. http: HOST:PORT, for the line to try."""
        with Live(screen([], []), console=self._console, auto_refresh=False) as live:
            refreshing = asyncio.create_task(_refresh(supervisor, live, http))
            try:
                await supervisor.run()
            finally:
                refreshing.cancel()


async def _refresh(supervisor: Supervisor, live: Live, http: str) -> None:
    while True:
        live.update(screen(rows(supervisor), hints(supervisor, http, live.console.width)), refresh=True)
        await asyncio.sleep(_REFRESH_S)


def rows(supervisor: Supervisor) -> list[Row]:
    made = []
    for key, version in sorted(supervisor.manager.versions.items()):
        artifact = version.config.artifact
        runtime = artifact.runtime.name if artifact else "-"
        building = supervisor.builder.progress(runtime)
        status = supervisor.manager.status(version)
        detail = status.reason
        if elapsed := supervisor.builder.elapsed_s(runtime):
            detail = f"{detail}, {elapsed:.0f} s"
        made.append(Row(key.model, key.version or "-", runtime, state_word(status.state, bool(building)), detail))
    return made


def hints(supervisor: Supervisor, http: str, width: int) -> list[str]:
    """A command to try, for the first model that is ready, on a line of its own."""
    for version in supervisor.manager.versions.values():
        status = supervisor.manager.status(version)
        if status.state == "READY":
            return ["Try it:", curl(status, http, min(width, _MAX_HINT_LENGTH))]
    return ["no model is ready yet"]


def curl(status: ModelStatus, http: str, longest: int = _MAX_HINT_LENGTH) -> str:
    """A command that asks the model something it will take; without known shapes, for its metadata.

    It stays within `longest` characters, since a terminal that breaks the line breaks the command.
    """
    signature = status.signature()
    specs = signature.inputs if signature else ()
    if any(spec.shape is None or kind_of(spec.datatype) in ("", "bytes", "bool") for spec in specs):
        specs = ()
    inputs = ", ".join(f'"{spec.name}": {_example(spec.shape or ())}' for spec in specs)
    command = f"curl http://{http}/predict/{status.name} -d '{{\"inputs\": {{{inputs}}}}}'"
    if not specs or len(command) > longest:
        return f"curl http://{http}/v2/models/{status.name}"
    return command


def _example(shape: tuple[int, ...]) -> str:
    if not shape:
        return "1"
    size = abs(shape[0])
    if len(shape) == 1 and size > _FEW:
        return f"['$(yes 1 | head -{size} | paste -sd, -)']"  # the shell writes the numbers
    return "[" + ", ".join([_example(shape[1:])] * min(size, _MANY)) + "]"
