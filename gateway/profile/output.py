"""Writes the files of a profile."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gateway.profile import tensorboard
from gateway.profile.chrome_trace import chrome_trace
from gateway.profile.plot import svg
from gateway.profile.record import Profile
from gateway.profile.table import markdown
from gateway.profile.toml_text import NotEditable, patch, with_settings
from gateway.repository.model_config import ModelConfig

# File → its content, which is "" if there is nothing to write.
_FILES: dict[str, Callable[[Profile], str]] = {
    "profile.json": lambda profile: json.dumps(to_json(profile), indent=1) + "\n",
    "profile.md": markdown,
    "profile.svg": svg,
    "trace.json": lambda profile: _trace(profile),
}
PATCH = "model.toml.patch"


def write(profile: Profile, config: ModelConfig, folder: Path) -> None:
    """Write all files of the profile to this folder, and replace those of an earlier one. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _FILES.items():
        _replace(folder / name, content(profile))
    _write_patch(profile, config, folder / PATCH)
    tensorboard.write(profile, folder / tensorboard.FOLDER)


def to_json(profile: Profile) -> dict[str, Any]:
    """Return the content of profile.json: all of the record but the trace, which has a file of its own."""
    content = asdict(profile)
    del content["trace"]
    content["points"] = [point._asdict() for point in profile.points]
    content["machine"] = profile.machine._asdict()
    content["interface"] = {
        kind: [spec._asdict() for spec in getattr(profile.interface, kind)] for kind in ("inputs", "outputs")
    }
    if found := profile.recommendation:
        content["recommendation"] = {
            "settings": {key: setting._asdict() for key, setting in found.settings.items()},
            "point": found.point._asdict(),
            "in_time": found.in_time,
        }
    return content


def changed_toml(profile: Profile, config: ModelConfig) -> tuple[str, str]:
    """Return the text of the model's model.toml, "" if it has none, and its text with what is recommended.

    Raises NotEditable.
    """
    before = ""
    if folder := config.folder:
        if (file := folder / "model.toml").exists():
            before = file.read_bytes().decode()  # with its line ends
        elif (folder / "config.pbtxt").exists():
            raise NotEditable("its config.pbtxt would no longer be read if there were a model.toml: set the keys there")
    settings = profile.recommendation.settings if profile.recommendation else {}
    return before, with_settings(before, settings) if settings else before


def _write_patch(profile: Profile, config: ModelConfig, file: Path) -> None:
    try:
        text = patch(*changed_toml(profile, config))
    except NotEditable:
        text = ""  # the values and their reasons are in profile.md
    _replace(file, text)


def _replace(file: Path, text: str) -> None:
    """Write the text; remove the file if there is none."""
    if text:
        file.write_text(text)
    else:
        file.unlink(missing_ok=True)


def _trace(profile: Profile) -> str:
    operators = profile.trace.operators
    return json.dumps(chrome_trace({profile.model: operators})) + "\n" if operators else ""
