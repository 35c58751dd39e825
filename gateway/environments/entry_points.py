"""Finds entry points of installed distributions.

importlib.metadata does the same, but imports the parser of e-mail with it, which takes 2 MiB of memory.
"""

import os
import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

# NAME-VERSION.dist-info, NAME.egg-info, NAME-VERSION-py3.11.egg-info
_METADATA = re.compile(r"([^-]+?)(-.*)?\.(dist|egg)-info")
_SECTION = re.compile(r"\[(.+)\]")
_ENTRY = re.compile(r"([^=\s]+)\s*=\s*([\w.]+)")


class EntryPoint(NamedTuple):
    """distribution: its name, with underscores for other punctuation."""

    name: str
    module: str
    distribution: str


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of this group, of all distributions in the folders of sys.path.

    Of several distributions with the same name, the first one counts.
    """
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for folder in sys.path:
        for distribution, file in _files(folder or "."):
            if distribution not in seen:
                seen.add(distribution)
                found += [EntryPoint(name, module, distribution) for name, module in _read(file, group)]
    return found


def _files(folder: str) -> Iterator[tuple[str, str]]:
    try:
        names = os.listdir(folder)
    except OSError:  # a folder that does not exist, or a zip archive
        return
    for name in names:
        if found := _METADATA.fullmatch(name):
            yield re.sub(r"[-_.]+", "_", found[1]).lower(), os.path.join(folder, name, "entry_points.txt")


def _read(file: str, group: str) -> Iterator[tuple[str, str]]:
    """Yield name and module of each entry in the group's section."""
    try:
        with open(file, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
    except OSError:  # most distributions have no entry points
        return
    section = ""
    for line in map(str.strip, lines):
        if found := _SECTION.fullmatch(line):
            section = found[1].strip()
        elif section == group and (found := _ENTRY.match(line)):
            yield found[1], found[2]
