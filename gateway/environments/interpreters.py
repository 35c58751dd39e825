"""Finds the Python interpreters of this machine, and runs each of them to find out what it is."""

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet

from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.probe import output_of
from gateway.environments.python_files import python_files
from gateway.environments.versions import humanize, newest_within

# A version manager's shim may hang or prompt. Too short, and a slow Python is overlooked; too long, and each hanging
# shim delays the start. What a Python waits for because the machine is busy does not count (probe.py).
PROBE_TIMEOUT_S = 10.0
# The gateway's own is no shim. If it were overlooked on a busy machine, environments would be built with another one.
_OWN_TIMEOUT_S = 120.0

# Runs on every Python 3. It reports the real file, because a shim's choice depends on the current folder; and for a
# virtual environment its base interpreter, because the environment may be deleted.
_PROBE = """
import json, os, platform, sys, sysconfig
def has(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True
libc = ""
if sys.platform.startswith("linux"):
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") and "glibc" or "musl"
    except (ValueError, OSError):
        libc = "musl"
in_venv = sys.prefix != sys.base_prefix
print(json.dumps({
    "path": os.path.realpath(sys.executable) if in_venv else sys.executable,
    "version": list(sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "ordinary": sys.implementation.name == "cpython" and sys.version_info[3] == "final"
        and sys.maxsize > 2 ** 32 and not sysconfig.get_config_var("Py_GIL_DISABLED"),
    "has_venv": has("venv") and has("ensurepip"),
    "system": {"darwin": "macos"}.get(sys.platform, sys.platform),
    "machine": platform.machine(),
    "libc": libc,
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter, as it described itself.

    ordinary  whether it is a final release of 64-bit CPython with the GIL, for which wheels are built
    has_venv  whether it can create a virtual environment with pip
    system    "linux" or "macos"; libc: "glibc" or "musl", "" on other systems
    """

    path: Path
    version: tuple[int, int, int]
    implementation: str
    ordinary: bool
    has_venv: bool
    system: str
    machine: str
    libc: str

    @property
    def minor(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def platform(self) -> str:
        """The platform's name in runtime.toml. musl has a separate name, because wheels for glibc do not load there."""
        return f"{self.system}{'-musl' if self.libc == 'musl' else ''}-{self.machine}"

    def satisfies(self, pythons: str) -> bool:
        return SpecifierSet(pythons).contains(".".join(map(str, self.version)))


def find(pythons: str, title: str) -> Interpreter:
    """Return the interpreter to build from: the gateway's own if it is in the range, else the newest that is.

    Raises EnvironmentUnavailable, whose sentence begins with `title`.
    """
    ours = own()
    if ours and ours.ordinary and ours.has_venv and ours.satisfies(pythons):
        return ours
    seen = list(_ordinary(ours))
    within = [interpreter for interpreter in seen if interpreter.satisfies(pythons)]
    if complete := [interpreter for interpreter in within if interpreter.has_venv]:
        return max(complete, key=lambda interpreter: interpreter.version)
    if within:
        minor = max(within, key=lambda interpreter: interpreter.version).minor
        raise EnvironmentUnavailable(
            f"the installed Python {minor} lacks ensurepip: "
            f"run 'apt install python{minor}-venv' or 'uv python install {minor}'"
        )
    minors = sorted({interpreter.version[:2] for interpreter in seen})
    found = ", ".join(f"{major}.{minor}" for major, minor in minors) or "none"
    advice = f"install one, or run 'uv python install {newest_within(pythons)}'"
    raise EnvironmentUnavailable(f"{title} needs Python {humanize(pythons)}, found {found}: {advice}")


def own() -> Interpreter | None:
    """Return the base interpreter of the gateway's own virtual environment."""
    return inspect(Path(getattr(sys, "_base_executable", sys.executable)), _OWN_TIMEOUT_S)


def chosen(python: Path) -> Interpreter | None:
    """Return the interpreter that the user named. Not its base interpreter, which lacks the installed packages."""
    interpreter = inspect(python)
    return replace(interpreter, path=python.expanduser().absolute()) if interpreter else None


def inspect(python: Path, timeout_s: float = 0.0) -> Interpreter | None:
    """Describe this file; None if it does not run as a Python 3. Each file is run once per process.

    timeout_s: as in output_of; 0 stands for PROBE_TIMEOUT_S
    """
    try:
        changed_ns = python.expanduser().stat().st_mtime_ns
        return _probe(str(python.expanduser().absolute()), changed_ns, timeout_s or PROBE_TIMEOUT_S)
    except OSError:
        return None


def _ordinary(ours: Interpreter | None) -> Iterator[Interpreter]:
    """Yield every ordinary interpreter for the gateway's own platform."""
    reported = set()
    for interpreter in [ours, *map(inspect, python_files())]:
        if interpreter is None or interpreter.path in reported:
            continue
        reported.add(interpreter.path)
        if interpreter.ordinary and (ours is None or interpreter.platform == ours.platform):
            yield interpreter


@functools.lru_cache(maxsize=256)
def _probe(path: str, changed_ns: int, timeout_s: float) -> Interpreter | None:
    """`changed_ns` is part of the cache key, so that a replaced file is run again."""
    try:
        fields = json.loads(output_of([path, "-I", "-c", _PROBE], timeout_s).splitlines()[-1])
        fields.update(path=Path(fields["path"]), version=tuple(fields["version"]))
        return Interpreter(**fields)
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return None
