"""Derives the runtime of a model that names packages of its own, or a Python version, from an installed runtime."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gateway.environments.errors import BrokenRequirements
from gateway.environments.runtime import Runtime
from gateway.environments.small_file import read_small
from gateway.environments.versions import humanize, minors_within

# Real files have a few KiB.
_MAX_BYTES = 1 << 18


def with_model_packages(runtime: Runtime, folder: Path, python: str = "", extras: tuple[str, ...] = ()) -> Runtime:
    """Return the runtime of a model in `folder`, whose environment has the runtime's packages and the model's.

    Models that ask for the same packages and Python version, in any order, get the same runtime, and so share an
    environment. A model that asks for nothing gets `runtime` itself.

    python: a version such as "3.12"; "" for any that `runtime` supports
    extras: names of packages that the runtime has for models that ask for them

    Raises BrokenRequirements.
    """
    file = runtime.model_requirements
    if python and not file:
        raise BrokenRequirements(
            f"its model.toml names Python {python}, but {runtime.title} chooses its own; remove it"
        )
    return with_packages(runtime, read_requirements(folder / file) if file else (), python, extras=extras)


def with_packages(
    runtime: Runtime,
    requested: tuple[str, ...],
    python: str,
    source: str = "its model.toml",
    extras: tuple[str, ...] = (),
) -> Runtime:
    """Return the runtime with these requirements, this Python version, which `source` names, and these extras.

    If there are none of them, that is `runtime` itself. Raises BrokenRequirements.
    """
    if not requested and not python and not extras:
        return runtime
    names = sorted(set(extras))
    runtime = replace(runtime, requirements=_with_extras(runtime, names))
    limits = dict.fromkeys(each for name in names for each in runtime.extras[name].get("pythons", ()))
    runtime = replace(runtime, pythons=",".join([runtime.pythons, *limits]))
    pythons = _pythons(runtime, python, source)
    key = json.dumps([runtime.requirements, requested, pythons], default=dict)
    return replace(
        runtime,
        name=f"{runtime.name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}",
        base=runtime.name,
        pythons=pythons,
        requirements={name: (*packages, *requested) for name, packages in runtime.requirements.items()},
        download_mb={} if requested else runtime.download_mb,
    )


def _with_extras(runtime: Runtime, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the packages of the runtime and of its extras by accelerator. Raises BrokenRequirements."""
    for name in names:
        if name not in runtime.extras:
            known = f"it has {', '.join(sorted(runtime.extras))}" if runtime.extras else "it has none; remove the key"
            raise BrokenRequirements(f"its model.toml asks for the extra '{name}' of {runtime.title}, but {known}")
    replaced = {canonicalize_name(each) for name in names for each in runtime.extras[name].get("without", ())}
    return {
        accelerator: sum(
            (_packages(runtime.extras[name], accelerator) for name in names),
            tuple(each for each in packages if canonicalize_name(Requirement(each).name) not in replaced),
        )
        for accelerator, packages in runtime.requirements.items()
    }


def _packages(extra: Mapping[str, tuple[str, ...]], accelerator: str) -> tuple[str, ...]:
    return extra[accelerator] if accelerator in extra else extra.get("cpu", ())


def _pythons(runtime: Runtime, python: str, source: str) -> str:
    if not python:
        return runtime.pythons
    if int(python.partition(".")[2]) not in minors_within(runtime.pythons):
        raise BrokenRequirements(
            f"{source} names Python {python}, but its runtime needs Python {humanize(runtime.pythons)}"
        )
    return f"=={python}.*"


def read_requirements(file: Path) -> tuple[str, ...]:
    """Return the requirements in a requirements.txt, normalized and sorted; none if there is no file.

    Raises BrokenRequirements for anything but names of packages with versions, extras and markers. Options of pip could
    make it install from elsewhere, which is for the operator to decide in pip's own configuration; URLs and folders
    could contain source, and to build that runs code outside of the worker's box.
    """
    try:
        text = read_small(file, _MAX_BYTES, BrokenRequirements).decode("utf-8-sig")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise BrokenRequirements(f"its {file.name} is not UTF-8") from None
    lines = {f"line {number} of its {file.name}": line for number, line in enumerate(text.splitlines(), 1)}
    return read_requirement_lines(lines)


def read_requirement_lines(lines: Mapping[str, str]) -> tuple[str, ...]:
    """Return the requirements in lines, normalized and sorted. `lines` has them by where they are, for errors.

    Raises BrokenRequirements as `read_requirements` does.
    """
    stripped = {where: _without_comment(line) for where, line in lines.items()}
    return tuple(sorted({_requirement(text, where) for where, text in stripped.items() if text}))


def _without_comment(line: str) -> str:
    start = 0 if line.lstrip().startswith("#") else line.find(" #")
    return (line if start < 0 else line[:start]).strip()


def _requirement(text: str, where: str) -> str:
    expected = "write one package per line, such as 'pillow>=10,<12'"
    if text.startswith("-") or " --" in text:
        raise BrokenRequirements(
            f"{where} is an option of pip; {expected}, and put options into pip's own configuration on the server"
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise BrokenRequirements(f"{where} does not name a package; {expected}") from None
    if requirement.url:
        raise BrokenRequirements(f"{where} is a URL, and only packages of the package index are installed; {expected}")
    return str(requirement)
