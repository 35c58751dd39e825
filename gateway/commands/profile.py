"""`modelport profile`: measures a model, and prints what was measured and what is recommended."""

import shutil
import sys
from functools import partial
from pathlib import Path

from rich.console import Console

from gateway.commands import offline
from gateway.config import Settings
from gateway.profile.operators_table import for_terminal
from gateway.profile.output import PATCH, changed_toml
from gateway.profile.profile import ProfileRequest, Result, profile
from gateway.profile.table import recommended_lines, sentences, terminal_table
from gateway.profile.toml_text import NotEditable


def run_profile(request: ProfileRequest, home: Path, settings: Settings) -> int:
    """Measure, write the folder, print, and change model.toml if that is asked for. Returns the exit code."""
    try:
        work = partial(profile, request)
        result = offline.run(work, home, settings, "stopped before anything was measured; nothing was written")
    except offline.Ended as ended:
        return ended.code
    _print(result, request.out)
    if not result.profile.finished:
        return 130
    return _apply(result) if request.apply else 0


def _print(result: Result, out: Path) -> None:
    console = Console(highlight=False, markup=False)
    console.print(terminal_table(result.profile))
    if operators := result.profile.trace.operators:
        console.print()
        console.print(for_terminal(operators))
        console.print()
    for sentence in sentences(result.profile):
        console.print(f"note: {sentence}", soft_wrap=True)
    if found := result.profile.recommendation:
        console.print("\nrecommended in model.toml:")
        for line in recommended_lines(found):
            console.print(f"  {line}", soft_wrap=True)
    try:
        before, after = changed_toml(result.profile, result.config)
        console.print(f"written to {out}" + (f"; {PATCH} changes model.toml" if before != after else ""))
    except NotEditable as error:
        console.print(f"written to {out}, without a patch: {error}")


def _apply(result: Result) -> int:
    """Change the model's model.toml, or write one. Returns the exit code."""
    folder = result.config.folder
    assert folder is not None  # otherwise nothing was measured
    try:
        before, after = changed_toml(result.profile, result.config)
    except NotEditable as error:
        print(f"modelport: {error}", file=sys.stderr)
        return 1
    file = (folder / "model.toml").resolve()  # it may be a link
    draft = file.with_name(f".{file.name}.draft")
    try:
        draft.write_text(after)
        if file.exists():
            shutil.copymode(file, draft)
        draft.replace(file)
    except OSError as error:
        print(f"modelport: {file} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{file} {'is changed' if before != after else 'stays as it is'}")
    return 0
