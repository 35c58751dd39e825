"""`modelport keys`: makes API keys, and the digests that the file of identities has of them."""

import sys
from getpass import getpass

from gateway.access.identities_file import check_name
from gateway.access.keys import PREFIX, check_key, digest_of, new_key
from gateway.config import SettingsError


def print_new_key(name: str) -> int:
    """Print a key to standard output, and the lines for the file of identities to standard error.

    So the key can go to a file, or to the program that delivers it. Raises SettingsError.
    """
    check_name(name, "keys new")
    key = new_key()
    lines = [
        "# Add these lines to the file of identities. The key, which is printed only now, is for the client.",
        f"[identities.{_quoted(name)}]",
        f'key_sha256 = ["{digest_of(key)}"]',
        'roles = ["infer", "read"]',
    ]
    print(*lines, sep="\n", file=sys.stderr, flush=True)
    print(key)
    return 0


def print_digest() -> int:
    """Print the digest of a key that is read from standard input. Raises SettingsError."""
    key = getpass("API key: ") if sys.stdin.isatty() else sys.stdin.read()
    key = key.strip()
    if problem := check_key(key):
        raise SettingsError(f"the key cannot be used: {problem}")
    print(PREFIX + digest_of(key))
    return 0


def _quoted(name: str) -> str:
    """Return the name as a key of TOML, where some of its characters need quotes."""
    return name if name.replace("-", "_").isidentifier() else f'"{name}"'
