"""Starts a gateway as a platform starts a container: with its variables and arguments, and folders at fixed places.

The folders are mounted in a mount namespace of the gateway's own. Nothing changes for other processes.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.support import ROOT
from tests.support.environments import skip_or_fail
from tests.support.gateway_process import Gateway

# Covers a top-level folder with an empty one, in which what was there is mounted again, so that others can be made.
_COVER = """
cover() {
    old=$(mktemp -d); mount --rbind "$1" "$old"; mount -t tmpfs none "$1"
    for each in "$old"/*; do
        name=$1/${each##*/}
        if [ -d "$each" ]; then mkdir "$name"; mount --rbind "$each" "$name"; fi
    done
}
place() { mkdir -p "$2"; mount --bind "$1" "$2"; }
"""


@cache
def _unshare() -> tuple[str, ...]:
    """The command that runs another in a mount namespace of its own; empty if that is not possible."""
    for command in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        try:
            if subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0:
                return command
        except OSError:
            pass
    return ()


def start_container(
    scratch: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folders: Mapping[str, Path] | None = None,
    settings: str = "",
) -> Gateway:
    """Start `modelport ARGUMENTS` in an empty folder, and nothing else that tests usually add.

    folders   path in the container, in /mnt or /opt → folder on this machine
    settings  the image's modelport.toml. It has no metrics, and gRPC on a free port of the loopback address
    """
    if folders and not _unshare():
        skip_or_fail("this user cannot make a mount namespace (unshare --mount)")
    plugin, here = scratch / "plugin", scratch / "image"
    info = plugin / "modelport_fake-1.0.dist-info"
    info.mkdir(parents=True)
    here.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelport-fake\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[modelport.runtimes]\nfake = runtimes.fake\n")
    ports = "http = '127.0.0.1:0'\ngrpc = '127.0.0.1:0'\nmetrics = ''\n"
    (here / "modelport.toml").write_text(f"{ports}{settings}[runtimes.fake]\npython = '{sys.executable}'\n")
    command = [sys.executable, "-P", "-m", "gateway", *arguments]
    if folders:
        tops = dict.fromkeys("/" + Path(each).parts[1] for each in folders)
        steps = [f"cover {shlex.quote(top)}" for top in tops]
        steps += [f"place {shlex.quote(str(here))} {shlex.quote(there)}" for there, here in folders.items()]
        command = [*_unshare(), "sh", "-ec", _COVER + "\n".join(steps) + '\nexec "$@"', "sh", *command]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "MODELPORT_HOME") if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=here,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{plugin}", **environment},
    )
    try:
        return Gateway(process)
    except AssertionError:
        process.kill()
        process.wait()
        raise
