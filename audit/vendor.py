"""Fetches the console's vendored libraries from npm again: make vendor.

    .venv/bin/python -m audit.vendor

A package or a file whose digest is not that of vendor.toml stops it with one sentence, and nothing is written. To
update a library, change its version there, run this for the new digests, and put them in.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from gateway.console.vendored import FOLDER, Library, libraries


class Differs(Exception):
    """A digest is not that of vendor.toml."""


def integrity(content: bytes) -> str:
    """Return npm's digest of a package."""
    return f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}"


def unpack(library: Library, package: Path) -> dict[str, bytes]:
    """Return name → content of the files that vendor/ has. Raises Differs."""
    if (found := integrity(package.read_bytes())) != library.integrity:
        raise Differs(f"{library.package} {library.version} has the integrity {found}, not {library.integrity}")
    contents = {}
    with tarfile.open(package) as archive:
        for path, digest in library.files.items():
            name = f"package/{path}"
            member = archive.extractfile(name) if name in archive.getnames() else None
            if member is None:
                raise Differs(f"{library.package} {library.version} has no file {path}")
            content = member.read()
            if (found := hashlib.sha256(content).hexdigest()) != digest:
                raise Differs(f"{path} of {library.package} {library.version} has the SHA-256 {found}, not {digest}")
            contents[Path(path).name] = content
    return contents


def fetch(library: Library, npm: str, scratch: Path) -> Path:
    """Return the package as npm's registry has it."""
    command = [npm, "pack", f"{library.package}@{library.version}", "--silent", "--pack-destination", str(scratch)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    return scratch / done.stdout.strip().splitlines()[-1]


def main() -> int:
    npm = shutil.which("npm")
    if npm is None:
        print("make vendor needs npm, which is not installed", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        try:
            unpacked = {each.folder: unpack(each, fetch(each, npm, Path(scratch))) for each in libraries()}
        except Differs as error:
            print(f"{error}: nothing was written", file=sys.stderr)
            return 1
    for folder, contents in unpacked.items():
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
        (FOLDER / folder).mkdir()
        for name, content in contents.items():
            (FOLDER / folder / name).write_bytes(content)
        print(f"{folder}: {', '.join(contents)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
