"""Reads a TOML table key by key, with errors that name the file and the key."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from gateway.environments.errors import BrokenRuntime


@dataclass(frozen=True)
class Table:
    """path: the table's prefix in the file, such as "", "requirements." or "formats[0]."."""

    file: Path
    path: str
    values: Mapping[str, Any]

    def wrong(self, key: str, expected: str) -> BrokenRuntime:
        actual = f"is {self.values[key]!r}" if key in self.values else "is missing"
        return BrokenRuntime(f"{self.file}: '{self.path}{key}' {actual}; expected {expected}")

    def allow(self, *keys: str) -> None:
        for key in self.values:
            if key not in keys:
                raise BrokenRuntime(f"{self.file}: there is no key '{self.path}{key}'; the keys are {', '.join(keys)}")

    def text(self, key: str, default: str = "", among: tuple[str, ...] = ()) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str) or (not value and key not in self.values):
            raise self.wrong(key, "a string")
        if among and value not in among:
            raise self.wrong(key, f"one of {', '.join(among)}")
        return value

    def texts(self, key: str, among: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a list of strings, empty if the key is missing."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise self.wrong(key, "a list of strings")
        if among and any(each not in among for each in value):
            raise self.wrong(key, f"a list of values from {', '.join(among)}")
        return tuple(value)

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def number(self, key: str) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self.wrong(key, "a number of megabytes")
        return value

    def specifiers(self, key: str) -> str:
        value = self.text(key)
        try:
            SpecifierSet(value)
        except InvalidSpecifier:
            raise self.wrong(key, "a range of Python versions, such as '>=3.11,<3.15'") from None
        return value

    def table(self, key: str) -> "Table":
        """Return a nested table, empty if the key is missing."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table [{self.path}{key}]")
        return Table(self.file, f"{self.path}{key}.", value)

    def tables(self, key: str) -> list["Table"]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise self.wrong(key, f"one or more tables [[{self.path}{key}]]")
        return [Table(self.file, f"{self.path}{key}[{index}].", each) for index, each in enumerate(value)]


def read_table(file: Path) -> Table:
    """Raises BrokenRuntime."""
    try:
        return Table(file, "", tomllib.loads(file.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise BrokenRuntime(f"{file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BrokenRuntime(f"{file} is not TOML: {error}") from None
