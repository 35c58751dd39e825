"""What several commands have in common: flags, and how their values are read."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config import Settings

ALLOW_LOSS_HELP = "compare each output relative to its largest value only: small values may be lost"


def command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")


def python_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python", action="append", default=[], metavar="RUNTIME=PATH",
        help="use this interpreter, which has the runtime's framework",
    )  # fmt: skip


def require_locks_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--require-locks", action=argparse.BooleanOptionalAction, default=None,
        help="build environments only from lock files; default: the setting require_locks",
    )  # fmt: skip


def tolerance_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tolerance",
        type=float,
        default=None,
        metavar="X",
        help="allowed difference, relative to an output's largest value",
    )


def shape_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=SIZES",
        help="sizes of an input with free dimensions, such as image=1,3,224,224",
    )  # fmt: skip


def with_pythons(settings: "Settings", pairs: list[str]) -> "Settings":
    from gateway.config import RuntimeSettings, SettingsError

    runtimes = dict(settings.runtimes)
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not os.path.exists(path):
            raise SettingsError(f"--python '{pair}': use RUNTIME=PATH, with the path of an interpreter")
        runtimes[name] = RuntimeSettings(python=Path(path))
    return settings.model_copy(update={"runtimes": runtimes})


def check_runtimes(settings: "Settings") -> None:
    """Raises SettingsError if the settings name a runtime that does not exist, which would have no effect."""
    from gateway.config import SettingsError
    from gateway.environments.runtime import converters, discover

    if not settings.runtimes:
        return
    known = {**discover(), **converters()}
    for name in settings.runtimes:
        if name not in known:
            raise SettingsError(f"there is no runtime '{name}' that could use a Python; there are {', '.join(known)}")


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse NAME=1,3,224,224. Raises SettingsError."""
    from gateway.config import SettingsError

    name, equals, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(",") if size)
    except ValueError:
        shape = (0,)
    if not equals or any(size < 1 for size in shape):
        raise SettingsError(f"--shape '{text}': use NAME=SIZES, such as image=1,3,224,224")
    return name, shape


def numbers(flag: str, text: str, largest: int) -> tuple[int, ...]:
    """Parse 1,2,4. Raises SettingsError."""
    from gateway.config import SettingsError

    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() and 0 < int(word) <= largest for word in words):
        raise SettingsError(f"--{flag} '{text}': use numbers from 1 to {largest}, separated by commas, such as 1,2,4")
    return tuple(map(int, words))
