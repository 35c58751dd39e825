"""`modelport runtimes lock`: writes lock files."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from gateway.environments import interpreters, lockfile
from gateway.environments.environment import Environment, locate
from gateway.environments.errors import CannotLock, EnvironmentUnavailable
from gateway.environments.lockfile import Lock, Target
from gateway.environments.resolve import resolve
from gateway.environments.runtime import Runtime, converters, discover


@dataclass(frozen=True)
class LockRequest:
    """names: runtimes; empty: all. pythons, platforms: empty: those of a build on this machine.

    upgrade: take the newest versions, not those of the existing lock or environment
    """

    names: tuple[str, ...]
    accelerator: str
    pythons: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    upgrade: bool = False


def lock(request: LockRequest, home: Path) -> int:
    """Write the locks, and print what was locked. Returns the exit code, 1 if any could not be made."""
    known = {**discover(), **converters()}
    for name in request.names:
        if name not in known:
            print(f"modelport: there is no runtime '{name}': installed are {', '.join(sorted(known))}", file=sys.stderr)
            return 1
    failed = False
    for name in request.names or known:
        runtime = known[name]
        try:
            for target in _targets(runtime, request):
                made = _write(runtime, target, request.upgrade, home)
                print(f"{name}: locked {len(made.pins)} packages for {target}", flush=True)
        except (CannotLock, EnvironmentUnavailable) as error:
            print(f"modelport: {name} is not locked: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def _targets(runtime: Runtime, request: LockRequest) -> Iterable[Target]:
    """Raises CannotLock and EnvironmentUnavailable."""
    accelerator = runtime.accelerator(request.accelerator)
    if not runtime.requirements.get(accelerator):
        raise CannotLock(f"it has no packages for the accelerator {accelerator}")
    pythons, platforms = request.pythons, request.platforms
    if not pythons or not platforms:
        ours = interpreters.find(runtime.pythons, runtime.title)
        pythons, platforms = pythons or (ours.minor,), platforms or (ours.platform,)
    for python in pythons:
        # Any release of this minor version will do, such as 3.11.4 for ">=3.11.4".
        if not any(SpecifierSet(runtime.pythons).contains(f"{python}.{micro}") for micro in (0, 99)):
            raise CannotLock(f"it does not support Python {python}")
    for platform in platforms:
        if runtime.platforms and platform not in runtime.platforms:
            raise CannotLock(f"it does not support {platform}")
    return [Target(accelerator, python, platform) for platform in platforms for python in pythons]


def _write(runtime: Runtime, target: Target, upgrade: bool, home: Path) -> Lock:
    """Raises CannotLock."""
    file = runtime.folder / "locks" / target.file_name
    built = _built(runtime, target.accelerator, home)
    installed = _installed(built)
    preferred = dict(installed)
    if file.exists() and (existing := lockfile.parse(file.read_text())):
        preferred |= {pin.name: pin.version for pin in existing.pins}
    made = resolve(runtime, target, {} if upgrade else preferred)
    if (
        built
        and not upgrade
        and (built.interpreter.minor, built.interpreter.platform) == (target.python, target.platform)
    ):
        for pin in made.pins:
            if not built.lock and installed.get(pin.name, pin.version) != pin.version:
                raise CannotLock(
                    f"{pin.name} {installed[pin.name]} is installed here, but the index has only {pin.version}, "
                    "and perhaps another build: use --upgrade to lock what the index has"
                )
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(made.text())
    except OSError as error:
        raise CannotLock(f"its locks folder cannot be written ({error.strerror})") from None
    return made


def _installed(environment: Environment | None) -> dict[str, str]:
    found = environment.installed if environment else {}
    return {canonicalize_name(name): version for name, version in found.items()}


def _built(runtime: Runtime, accelerator: str, home: Path) -> Environment | None:
    """Return the environment on this machine, if it is built: its versions are those that were tried."""
    try:
        environment = locate(runtime, accelerator, home)
    except EnvironmentUnavailable:
        return None
    return environment if environment.ready else None
