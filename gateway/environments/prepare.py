"""A runtime's own last step of building its environment: what neither pip nor npm can bring."""

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
    """Of the script, and of what shares its stem (mpi.py and mpi.c, say); "" where there is none."""
    if not runtime.prepare:
        return ""
    files = sorted(runtime.folder.glob(f"{Path(runtime.prepare).stem}.*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


async def run(folder: Path, runtime: Runtime, progress: Callable[[str], None]) -> None:
    """Raises EnvironmentUnavailable, with the script's last line as the reason."""
    progress("preparing it")
    said: deque[str] = deque(maxlen=15)
    code = await run_module(folder / "bin" / "python", str(runtime.folder / runtime.prepare), [], said.append)
    if code:
        detail = "\n".join(said)
        log.info("%s of %s failed with %d:\n%s", runtime.prepare, runtime.name, code, detail)
        raise EnvironmentUnavailable(said[-1] if said else f"{runtime.prepare} failed with exit code {code}", detail)
