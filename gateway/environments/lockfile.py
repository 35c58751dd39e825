"""Lock files: the exact packages of an environment, with the hashes of their files.

A lock is for one runtime, accelerator, Python and platform. It is a requirements file in the `locks` folder next to
runtime.toml, as pip reads it with --require-hashes.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.interpreters import Interpreter
from gateway.environments.runtime import Runtime

# Makes pip refuse every other file, and everything that it would have to build, which runs code that has no hash. The
# lock contains the dependencies.
PIP_OPTIONS = ("--require-hashes", "--no-deps", "--only-binary", ":all:")

_HEADER = "# Written by `modelport runtimes lock`. pip installs these files and no others.\n"
_PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[\w.+!]+)(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)")


@dataclass(frozen=True)
class Target:
    """What a lock is for. python: a minor version, such as "3.12". platform: a name as in runtime.toml."""

    accelerator: str
    python: str
    platform: str

    def __str__(self) -> str:
        return f"{self.accelerator}, Python {self.python}, {self.platform}"

    @property
    def file_name(self) -> str:
        return f"{self.accelerator}-cp{self.python.replace('.', '')}-{self.platform}.txt"


@dataclass(frozen=True)
class Pin:
    """name: normalized. hashes: the SHA-256 of each file of this version that fits the target, in hexadecimal."""

    name: str
    version: str
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """pins: every package that is installed, sorted by name."""

    pins: tuple[Pin, ...]

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.requirements()).encode()).hexdigest()

    def requirements(self) -> list[str]:
        """Return the lines that pip reads."""
        return [
            " ".join([f"{pin.name}=={pin.version}", *(f"--hash=sha256:{each}" for each in pin.hashes)])
            for pin in self.pins
        ]

    def text(self) -> str:
        return _HEADER + "".join(line.replace(" --hash", " \\\n    --hash") + "\n" for line in self.requirements())

    def missing(self, runtime: Runtime, target: Target) -> str:
        """Return the first requirement of runtime.toml that the lock does not meet; "" if there is none."""
        versions = {pin.name: pin.version for pin in self.pins}
        for text in (*runtime.requirements[target.accelerator], *runtime.without_dependencies):
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                return text  # an option of pip, or a path, which no lock can describe
            if requirement.marker is not None and not requirement.marker.evaluate(marker_variables(target)):
                continue
            version = versions.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                return text
        return ""


def parse(text: str) -> Lock | None:
    """Return the lock in a file's text; None if it contains anything but pins with hashes."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    matches = [_PIN.fullmatch(line.strip()) for line in joined.splitlines() if line.strip() and line[0] != "#"]
    if not matches or None in matches:
        return None
    return make(
        Pin(match["name"], match["version"], tuple(re.findall(r"[0-9a-f]{64}", match["hashes"])))
        for match in matches
        if match
    )


def make(pins: Iterable[Pin]) -> Lock:
    return Lock(tuple(sorted(pins, key=lambda pin: pin.name)))


def find(runtime: Runtime, accelerator: str, interpreter: Interpreter) -> Lock | None:
    """Return the lock for a build with this interpreter; None if there is none.

    Raises EnvironmentUnavailable for a lock that cannot be used, because to ignore it would install other files.
    """
    if not interpreter.ordinary or runtime.npm:
        return None
    target = Target(accelerator, interpreter.minor, interpreter.platform)
    advice = f"run 'modelport runtimes lock {runtime.name}', or delete the lock"
    try:
        lock = parse((runtime.folder / "locks" / target.file_name).read_text())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        lock = None
    if lock is None:
        raise EnvironmentUnavailable(f"{runtime.title}'s lock for {target} is damaged: {advice}")
    if missing := lock.missing(runtime, target):
        raise EnvironmentUnavailable(f"{runtime.title}'s lock for {target} does not contain '{missing}': {advice}")
    return lock


def marker_variables(target: Target) -> dict[str, str]:
    """Return the values of environment markers (PEP 508) on the target."""
    system, _, machine = target.platform.partition("-")
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": {"linux": "Linux", "macos": "Darwin"}.get(system, system),
        "python_full_version": f"{target.python}.0",
        "python_version": target.python,
        "sys_platform": {"macos": "darwin"}.get(system, system),
        "extra": "",
    }
