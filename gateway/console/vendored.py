"""The libraries of others in vendor/, as vendor.toml lists them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "vendor"


class Library(NamedTuple):
    """A library from npm.

    folder     its folder in vendor/
    license    an SPDX expression
    integrity  of the package, as npm gives it
    files      path in the package → SHA-256. The folder has these files, without the package's folders
    """

    folder: str
    package: str
    version: str
    license: str
    integrity: str
    files: Mapping[str, str]


def libraries() -> list[Library]:
    tables = tomllib.loads((FOLDER / "vendor.toml").read_text())
    return [Library(folder, **table) for folder, table in tables.items()]
