"""Sets keys in the text of a model.toml, of which everything else stays as it is, comments included."""

import difflib
import re
import textwrap
import tomllib
from collections.abc import Mapping

from gateway.profile.recommendation import Setting

# Begins the comment above each key, so that the next profile replaces it.
_MARK = "# modelport profile: "
_WIDTH = 120
# Some editors begin files with it, which is no part of TOML.
_BOM = "\ufeff"


class NotEditable(Exception):
    """The text cannot be edited line by line. The message is one sentence."""


def with_settings(text: str, settings: Mapping[str, Setting]) -> str:
    """Return the text with these keys set, each with its reason in a comment above it. Raises NotEditable."""
    mark, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    end = "\r\n" if "\r\n" in body else "\n"
    if body and not body.endswith("\n"):
        body += end
    lines = _lines(body)
    for key, setting in settings.items():
        _set(lines, key, setting, end)
    changed = "".join(lines)
    expected = {**tomllib.loads(body), **{key: setting.value for key, setting in settings.items()}}
    try:
        if tomllib.loads(changed) == expected:
            return mark + changed
    except tomllib.TOMLDecodeError:
        pass
    raise NotEditable("model.toml spreads a value over several lines in a way that cannot be edited here: set the keys")


def patch(before: str, after: str, name: str = "model.toml") -> str:
    """Return a unified diff, which `patch -p1` and `git apply` accept in the model's folder; "" if nothing changes."""
    old, new = _lines(before), _lines(after)
    if old and not old[-1].endswith("\n"):
        old[-1] += "\n\\ No newline at end of file\n"
    return "".join(difflib.unified_diff(old, new, f"a/{name}" if before else "/dev/null", f"b/{name}"))


def _lines(text: str) -> list[str]:
    """Return the lines with their ends. Python's splitlines() also splits at characters that TOML does not."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _set(lines: list[str], key: str, setting: Setting, line_end: str) -> None:
    wrapped = textwrap.wrap(setting.reason, _WIDTH, initial_indent=_MARK, subsequent_indent=f"{_MARK}  ")
    comment = [line + line_end for line in wrapped]
    end = _end_of_keys(lines)
    for number, line in enumerate(lines[:end]):
        found = re.match(rf'(\s*"?{key}"?\s*=\s*)([^\s#]+)(.*)$', line, re.DOTALL)
        if found:
            start = number
            while start and lines[start - 1].startswith(_MARK):
                start -= 1
            lines[start : number + 1] = [*comment, f"{found[1]}{setting.value:g}{found[3]}"]
            return
    lines[end:end] = [*comment, f"{key} = {setting.value:g}{line_end}"]


def _end_of_keys(lines: list[str]) -> int:
    """Return the number of the line after the last key that is in no table: keys below belong to a table."""
    table = next((number for number, line in enumerate(lines) if re.match(r"\s*\[", line)), len(lines))
    while table and (not lines[table - 1].strip() or lines[table - 1].lstrip().startswith("#")):
        table -= 1  # comments above a table are about it
    return table
