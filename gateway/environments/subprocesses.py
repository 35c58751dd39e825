"""Runs a module of another interpreter so that it never outlives the gateway."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

_LEASHED = Path(__file__).with_name("leashed.py")
# pip prints some lines without an end, such as long dependency conflicts.
_MAX_LINE_LENGTH = 1024 * 1024
# These would make the target interpreter another one, or pip install elsewhere than into its own environment. All of
# pip's other settings are the user's to make.
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
    """`python -m module arguments`, each line that it prints given to `on_line`. Returns its exit code.

    module     a script's path will do
    variables  all of its environment; None: ours, less what would mislead it
    folder     where it runs; None: where we do

    When this task is cancelled or the gateway dies, the module and all that it started are killed.
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
                # It may have ended by itself, and been reaped, without the event loop having heard of it.
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
            continue  # longer than the buffer: dropped, the next one is read
        if not line:
            return
        if text := line.decode(errors="replace").rstrip():
            on_line(text)


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    # PIP_USER rather than nothing: it may be set in pip's configuration file.
    return {key: value for key, value in inherited.items() if key not in _DROPPED} | {"PIP_USER": "0"}
