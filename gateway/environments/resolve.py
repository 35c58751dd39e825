"""Resolves what a lock pins, by uv, from the package index that pip is configured for.

uv resolves for another Python and platform as well, and needs only what an index says about its files, so nothing is
installed and hardly anything downloaded. It is an optional dependency: modelport[lock].
"""

import ast
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.environments import lockfile
from gateway.environments.errors import CannotLock
from gateway.environments.lockfile import Lock, Pin, Target
from gateway.environments.runtime import Runtime

# glibc 2.28 is the newest that the wheels of all runtimes need, and older than that of every supported distribution.
_UV_PLATFORMS = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-aarch64": "aarch64-manylinux_2_28",
    "macos-arm64": "aarch64-apple-darwin",
    "macos-x86_64": "x86_64-apple-darwin",
}
# The oldest macOS that the wheels of all runtimes support; uv assumes an older one.
_MACOS = "14.0"
# Of uv's own variables, those that do not change what it resolves.
_KEPT = ("UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_NO_CACHE")


def resolve(runtime: Runtime, target: Target, preferred: Mapping[str, str]) -> Lock:
    """Return a lock of what pip would install for the target now. Raises CannotLock.

    preferred: distribution → version, chosen before newer ones if the index has it and the others allow it
    """
    if runtime.npm:
        raise CannotLock("it has npm packages, which no lock covers")
    if target.platform not in _UV_PLATFORMS:
        raise CannotLock(f"wheels for {target.platform} cannot be locked; {', '.join(_UV_PLATFORMS)} can")
    options, variables = _index()
    options += ["--python-version", target.python, "--python-platform", _UV_PLATFORMS[target.platform]]
    packages = _compile(runtime.requirements[target.accelerator], options, variables, preferred)
    if alone := runtime.without_dependencies:
        packages |= _compile(alone, [*options, "--no-deps"], variables, preferred)
    lock = lockfile.make(packages.values())
    if target.accelerator == "cpu" and (cuda := [pin.name for pin in lock.pins if pin.name.startswith("nvidia-")]):
        raise CannotLock(
            f"what the index has for the CPU is a build for CUDA, with {cuda[0]} and {len(cuda) - 1} more packages "
            "by NVIDIA: configure pip with an index of builds for the CPU"
        )
    if missing := lock.missing(runtime, target):
        raise CannotLock(f"its requirement '{missing}' is none that a lock can describe: use a package and a version")
    return lock


def _compile(
    requirements: Iterable[str], options: list[str], variables: Mapping[str, str], preferred: Mapping[str, str]
) -> dict[str, Pin]:
    """Return name → pin. Raises CannotLock."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, output = Path(folder, "requirements.in"), Path(folder, "pylock.toml")
        wanted.write_text("".join(f"{requirement}\n" for requirement in requirements))
        # uv keeps the versions in an output file that is there already, if it can.
        packages = (f'[[packages]]\nname = "{name}"\nversion = "{version}"\n' for name, version in preferred.items())
        if preferred:
            output.write_text("\n".join(['lock-version = "1.0"\ncreated-by = "modelport"\n', *packages]))
        command = [
            _uv(), "pip", "compile", "--no-config", "--quiet", "--no-python-downloads", "--python", sys.executable,
            "--generate-hashes", "--format", "pylock.toml", "--only-binary", ":all:", *options,
            "--output-file", str(output), str(wanted),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=dict(variables), cwd=folder)
        if done.returncode:
            causes = [line.partition(":")[2].strip() for line in done.stderr.splitlines() if "cause:" in line]
            cause = (causes or done.stderr.strip().splitlines() or ["it printed nothing"])[-1].rstrip(".")
            raise CannotLock(f"uv could not resolve its packages: {cause}")
        return {pin.name: pin for pin in map(_pin, tomllib.loads(output.read_text())["packages"])}


def _uv() -> str:
    """Raises CannotLock."""
    try:
        from uv import find_uv_bin

        path: str = find_uv_bin()
    except (ImportError, FileNotFoundError):
        raise CannotLock("uv, which resolves packages, is missing: pip install 'modelport[lock]'") from None
    return path


def _pin(package: Mapping[str, Any]) -> Pin:
    """Raises CannotLock."""
    hashes = {wheel["hashes"].get("sha256") for wheel in package.get("wheels", ())}
    if not hashes or None in hashes or "version" not in package:
        raise CannotLock(f"the index states no SHA-256 of a wheel of {package['name']}")
    return Pin(package["name"], package["version"], tuple(sorted(hashes)))


def _index() -> tuple[list[str], dict[str, str]]:
    """Return uv's options and environment for the index of pip's configuration. Raises CannotLock.

    Folders of this machine are left out: nobody else has what they contain.
    """
    pip = _pip_configuration()
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        raise CannotLock("pip is configured without an index (no-index), and a lock states what an index has")
    # Like pip, which takes the best version of all indexes.
    options = ["--index-strategy", "unsafe-best-match"]
    if index := pip.get("index-url"):
        if not _is_remote(index):
            raise CannotLock("the index that pip is configured for is a folder, and a lock states what an index has")
        options += ["--default-index", index]
    for extra in filter(_is_remote, pip.get("extra-index-url", "").split()):
        options += ["--index", extra]
    for option, key in (("--allow-insecure-host", "trusted-host"), ("--constraints", "constraint")):
        options += [part for value in pip.get(key, "").split() for part in (option, value)]
    if certificates := pip.get("cert"):
        options += ["--cert", certificates]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("UV_") or key in _KEPT}
    variables["MACOSX_DEPLOYMENT_TARGET"] = _MACOS
    if proxy := pip.get("proxy"):
        variables |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    return options, variables


def _is_remote(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _pip_configuration() -> dict[str, str]:
    """Return pip's settings for `pip install`, from its files and variables, by their names without dashes in front."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotLock("pip, whose configuration names the index, does not run here: python -m ensurepip adds it")
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for section, key, value in _settings(done.stdout):
        sections.get(section, {})[key] = value
    return sections["global"] | sections["install"] | sections[":env:"]


def _settings(listing: str) -> Iterator[tuple[str, str, str]]:
    """Yield section, key and value of each line of `pip config list`, such as global.index-url='https://…'."""
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        yield section, key, str(ast.literal_eval(value))
