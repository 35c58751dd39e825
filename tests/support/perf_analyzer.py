"""NVIDIA's perf_analyzer, unmodified, from its wheel; with a newer C library if the system's is too old."""

import csv
import hashlib
import lzma
import platform
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from gateway.config import home

WHEEL = "perf-analyzer==2.60.0"
_GLIBC = (2, 38)
_DEBIAN = "http://deb.debian.org/debian"
_RELEASE = "trixie"
_PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")


def perf_analyzer_command() -> list[str]:
    """Return the command, fetched once into MODELPORT_HOME. Linux on x86-64 only: there is no other wheel."""
    folder = home() / "test-clients" / "perf_analyzer"
    program, marker = folder / "wheel" / "perf_analyzer" / "bin" / "perf_analyzer", folder / "complete"
    needs_libc = _system_glibc() < _GLIBC
    if not marker.exists() or marker.read_text() != WHEEL:
        _unpack_wheel(folder)
        if needs_libc:
            _unpack_libc(folder)
        program.chmod(0o755)
        marker.write_text(WHEEL)
    if not needs_libc:
        return [str(program)]
    libraries = folder / "libc" / "usr" / "lib" / "x86_64-linux-gnu"
    search_path = f"{libraries}:/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu"
    return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", search_path, str(program)]


def measure(command: list[str], report: Path, *arguments: str) -> list[dict[str, str]]:
    """Return the rows of its report, one for each concurrency. Fails with its output if it fails."""
    done = subprocess.run(
        [*command, "-f", str(report), *arguments], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with report.open() as file:
        return list(csv.DictReader(file))


def _system_glibc() -> tuple[int, ...]:
    name, version = platform.libc_ver()
    return tuple(map(int, version.split("."))) if name == "glibc" else (0,)


def _unpack_wheel(folder: Path) -> None:
    downloads = folder / "downloads"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    pip += ["--platform", "manylinux_2_38_x86_64", "--dest", str(downloads), WHEEL]
    subprocess.run(pip, check=True)
    (wheel,) = downloads.glob("perf_analyzer-*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(folder / "wheel")], check=True)


def _unpack_libc(folder: Path) -> None:
    index = lzma.decompress(_fetch(f"dists/{_RELEASE}/main/binary-amd64/Packages.xz")).decode()
    for name in _PACKAGES:
        entry = next(each for each in index.split("\n\n") if each.startswith(f"Package: {name}\n"))
        fields = dict(re.findall(r"^(Filename|SHA256): (\S+)$", entry, re.MULTILINE))
        package = folder / "downloads" / f"{name}.deb"
        package.write_bytes(_fetch(fields["Filename"]))
        assert hashlib.sha256(package.read_bytes()).hexdigest() == fields["SHA256"]
        subprocess.run(["dpkg-deb", "--extract", str(package), str(folder / "libc")], check=True)


def _fetch(path: str) -> bytes:
    with urllib.request.urlopen(f"{_DEBIAN}/{path}", timeout=120) as answer:
        content: bytes = answer.read()
    return content
