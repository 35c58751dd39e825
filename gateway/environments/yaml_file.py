"""Reads small YAML files: MLflow's."""

from pathlib import Path
from typing import Any

from gateway.environments.small_file import read_small

# Real files have a few KiB; a signature of ten thousand columns has half a MiB.
_MAX_BYTES = 1 << 20


class BrokenYaml(Exception):
    """The message is one sentence, without paths."""


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the mapping in a file, in which every scalar is text: "3.10" stays a version, and "null" is a word.

    Raises BrokenYaml and FileNotFoundError.
    """
    import yaml  # imported late, because only repositories with models of MLflow need it

    raw = read_small(file, _MAX_BYTES, BrokenYaml)
    try:
        # In C where the package has it, which is a hundred times faster. Neither loader makes objects.
        document = yaml.load(raw, getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise BrokenYaml(f"its {file.name} is not YAML{where}") from None
    if not isinstance(document, dict):
        raise BrokenYaml(f"its {file.name} must have keys and values")
    return document
