"""Runs a module in another interpreter, in a process that never outlives the gateway."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

_LEASHED = Path(__file__).with_name("leashed.py")
# pip prints some very long lines, such as dependency conflicts. Longer ones are dropped; the limit bounds memory.
_MAX_LINE_LENGTH = 1024 * 1024
# These would change the target interpreter, or make pip install outside of its environment. All other settings of pip
# are the user's choice.
_DROPPED = (
    "PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV",
    "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON",
)  # fmt: skip


async def run_module(
    python: Path,
    module: str,
    arguments: list[str],
    on_line: Callable[[str], None],
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> int:
    """Run `python -m module arguments`, and pass each line of its output to `on_line`. Returns its exit code.

    module     or a script's path
    variables  its complete environment; None: the gateway's, without variables that would mislead it
    folder     its working directory; None: the gateway's

    If this coroutine is cancelled or the gateway dies, the module and all its child processes are killed.
    """
    theirs, ours = os.pipe()
    process = None
    try:
        process = await asyncio.create_subprocess_exec(
            str(python), "-I", "-u", str(_LEASHED), module, *arguments,
            stdin=theirs, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=_environment(os.environ) if variables is None else variables, cwd=folder,
            limit=_MAX_LINE_LENGTH, start_new_session=True,
        )  # fmt: skip
        await _pump(process, on_line)
        return await process.wait()
    finally:
        try:
            if process is not None and process.returncode is None:
                # It may have ended and been reaped before the event loop noticed.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        finally:
            os.close(ours)
            os.close(theirs)


async def _pump(process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:
            continue  # the line exceeded the limit, and was dropped
        if not line:
            return
        if text := line.decode(errors="replace").rstrip():
            on_line(text)


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    # Set PIP_USER explicitly, because pip's configuration file may enable it.
    return {key: value for key, value in inherited.items() if key not in _DROPPED} | {"PIP_USER": "0"}
