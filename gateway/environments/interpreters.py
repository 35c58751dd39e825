"""Which Pythons this machine has, found where people have them, each one run to learn what it is."""

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.specifiers import SpecifierSet

from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.places import python_files
from gateway.environments.versions import humanize, newest_within

# A version manager's shim may hang or ask something; no real Python takes this long to say what it is.
PROBE_TIMEOUT_S = 10.0

# Runs on every Python 3. A shim's answer depends on the current folder, so what is kept is the real file; and the one
# beneath a virtual environment, since that environment may be deleted.
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
    """A Python that ran and said this of itself.

    ordinary  CPython, a final release, 64-bit, with the GIL: what wheels are made for
    has_venv  it can make a virtual environment that has pip
    system    "linux", "macos"; libc: "glibc", "musl", or "" where there is no choice
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
        """As runtime.toml names it. musl has a name of its own: the wheels made for glibc do not load there."""
        return f"{self.system}{'-musl' if self.libc == 'musl' else ''}-{self.machine}"

    def satisfies(self, pythons: str) -> bool:
        return SpecifierSet(pythons).contains(".".join(map(str, self.version)))


def find(pythons: str, title: str) -> Interpreter:
    """The interpreter to build from: the gateway's own when it is in the range, else the newest that is.

    `title` names who needs it in the sentence of EnvironmentUnavailable.
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
            f"Python {minor} at hand lacks ensurepip: "
            f"apt install python{minor}-venv, or run 'uv python install {minor}'"
        )
    minors = sorted({interpreter.version[:2] for interpreter in seen})
    found = ", ".join(f"{major}.{minor}" for major, minor in minors) or "none"
    advice = f"install one, or run 'uv python install {newest_within(pythons)}'"
    raise EnvironmentUnavailable(f"{title} needs Python {humanize(pythons)}, found {found}: {advice}")


def own() -> Interpreter | None:
    """The interpreter beneath the gateway's own virtual environment."""
    return inspect(Path(getattr(sys, "_base_executable", sys.executable)))


def chosen(python: Path) -> Interpreter | None:
    """The interpreter that a person named, as it is: not the one beneath it, which lacks what was installed in it."""
    interpreter = inspect(python)
    return replace(interpreter, path=python.expanduser().absolute()) if interpreter else None


def inspect(python: Path) -> Interpreter | None:
    """What this file is, or None when it does not run as a Python 3. Asked once per process and file."""
    try:
        return _probe(str(python.expanduser().absolute()), python.expanduser().stat().st_mtime_ns)
    except OSError:
        return None


def _ordinary(ours: Interpreter | None) -> Iterator[Interpreter]:
    """Every ordinary interpreter for the gateway's own platform."""
    reported = set()
    for interpreter in [ours, *map(inspect, python_files())]:
        if interpreter is None or interpreter.path in reported:
            continue
        reported.add(interpreter.path)
        if interpreter.ordinary and (ours is None or interpreter.platform == ours.platform):
            yield interpreter


@functools.lru_cache(maxsize=256)
def _probe(path: str, changed_ns: int) -> Interpreter | None:
    """`changed_ns` makes a replaced file another question."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_TIMEOUT_S, check=True,
        )  # fmt: skip
        said = json.loads(done.stdout.splitlines()[-1])
        said.update(path=Path(said["path"]), version=tuple(said["version"]))
        return Interpreter(**said)
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return None
