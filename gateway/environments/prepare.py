"""Runs a runtime's own script as the last step of building its environment, for what pip and npm cannot install."""

import hashlib
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.runtime import Runtime
from gateway.environments.subprocesses import run_module

log = logging.getLogger("environments")


def digest(runtime: Runtime) -> str:
    """Return a digest of the script and of files with the same stem, such as mpi.py and mpi.c; "" without a script."""
    if not runtime.prepare:
        return ""
    files = sorted(runtime.folder.glob(f"{Path(runtime.prepare).stem}.*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


async def run(folder: Path, runtime: Runtime, progress: Callable[[str], None]) -> None:
    """Run the script. Raises EnvironmentUnavailable, with the script's last line as the reason."""
    progress("preparing it")
    output: deque[str] = deque(maxlen=15)
    code = await run_module(folder / "bin" / "python", str(runtime.folder / runtime.prepare), [], output.append)
    if code:
        detail = "\n".join(output)
        log.info("%s of %s failed with %d:\n%s", runtime.prepare, runtime.name, code, detail)
        raise EnvironmentUnavailable(
            output[-1] if output else f"{runtime.prepare} failed with exit code {code}", detail
        )
