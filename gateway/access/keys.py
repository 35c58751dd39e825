"""API keys: random, so that a fast hash keeps them secret, and known to the gateway by their SHA-256 digests only."""

import os
import re
import secrets
import stat
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

# Shorter keys in files could be guessed from their digests.
MIN_LENGTH = 32
# The characters that RFC 6750 allows in a bearer token.
FORM = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
DIGEST_FORM = "a SHA-256 digest of 64 hexadecimal digits, as modelport keys prints it"
PREFIX = "sha256:"
# Bytes of a key file: some keys, one on each line.
_MAX_FILE_BYTES = 1 << 14


def new_key() -> str:
    """Return a new key with 256 random bits. Its prefix lets scanners for secrets find it."""
    return "mp_" + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return the SHA-256 digest of a key, in hexadecimal."""
    return sha256(key.encode()).hexdigest()


def read_digest(text: str) -> str:
    """Read a digest as the files of operators have it. Raises ValueError, without repeating what could be a key."""
    digest = text.strip().lower().removeprefix(PREFIX)
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"it must be {DIGEST_FORM}")
    return digest


def check_key(key: str) -> str:
    """Return why a key cannot be used, or ""."""
    if len(key) < MIN_LENGTH:
        return f"it has {len(key)} characters, and needs at least {MIN_LENGTH}; make one with modelport keys new"
    if not FORM.fullmatch(key):
        return "it has characters that a bearer token cannot have; make one with modelport keys new"
    return ""


class KeyFolder(NamedTuple):
    """What a folder of keys has.

    digests   name of the file → digests of its keys
    problems  sentences about files that cannot be used, or that others can read
    """

    digests: dict[str, list[str]]
    problems: list[str]


def key_files(folder: Path) -> list[Path]:
    """Return the files that have keys, sorted. Raises OSError.

    Names with a dot first are skipped: Kubernetes mounts a secret as links into a hidden folder, which it replaces.
    """
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def read_folder(folder: Path) -> KeyFolder:
    """Read a folder in which each file has the keys of the client of that name, one on each line. Raises OSError."""
    found = KeyFolder({}, [])
    for file in key_files(folder):
        try:
            with file.open("rb") as stream:
                raw = stream.read(_MAX_FILE_BYTES + 1)
                readable_by_all = bool(os.fstat(stream.fileno()).st_mode & stat.S_IROTH)
        except OSError as error:
            found.problems.append(f"the keys of '{file.name}' cannot be read: {error.strerror}")
            continue
        if len(raw) > _MAX_FILE_BYTES:  # the last line would be a part of a key
            found.problems.append(
                f"the keys of '{file.name}' are not accepted: the file is over {_MAX_FILE_BYTES} bytes"
            )
            continue
        in_clear = False
        for line in filter(None, map(str.strip, raw.decode("ascii", "replace").splitlines())):
            digest, problem = _read_line(line)
            in_clear |= not line.startswith(PREFIX)
            if problem:
                found.problems.append(f"a key of '{file.name}' is not accepted: {problem}")
            else:
                found.digests.setdefault(file.name, []).append(digest)
        if in_clear and readable_by_all:
            found.problems.append(
                f"every user of this machine can read the keys of '{file.name}'; set its mode to 0400"
            )
    return found


def _read_line(line: str) -> tuple[str, str]:
    """Return a key's digest, or why it cannot be used."""
    if not line.startswith(PREFIX):
        return digest_of(line), check_key(line)
    try:
        return read_digest(line), ""
    except ValueError:
        return "", "after sha256:, 64 hexadecimal digits are needed"
