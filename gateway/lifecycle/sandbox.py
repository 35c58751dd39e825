"""Plans the box of a worker: what it may read, and the exceptions that model.toml asks for."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.repository.model_config import ModelConfig
from runtimes.sandbox.box import Box


class NotAllowed(Exception):
    """The message is one sentence that says what the operator would have to allow."""


@dataclass(frozen=True)
class SandboxPolicy:
    """The gateway's settings `sandbox`, `allow_sandbox_exceptions` and `allow_python`."""

    enabled: bool = True
    exceptions: bool = False
    programs: bool = False


def check_program(config: ModelConfig, policy: SandboxPolicy) -> None:
    """Raises NotAllowed if the model is a program, and the gateway runs none. Nothing is built for it, then."""
    if config.artifact is None or not config.artifact.runtime.model_code or policy.programs:
        return
    handler = config.artifact.handler
    what = f"its handler {handler.name}" if handler else "it"
    how = "start it with --allow-python if you trust its author"
    if handler and handler.alternative:
        how += f', or write runtime = "{handler.alternative}" in model.toml to serve the model without it'
    raise NotAllowed(f"{what} is a program, which this gateway does not run; {how}")


def plan_box(config: ModelConfig, runtime: Path, policy: SandboxPolicy) -> Box | None:
    """Return the box of a model's workers, without their scratch folder; None if they run without one.

    It looks at all files of the model, so call it in a thread. Raises NotAllowed.

    runtime: the folder of runtime.py
    """
    if not policy.enabled:
        return None
    wanted = config.toml.sandbox
    asked = [name for name in ("network", "read") if getattr(wanted, name)] + ([] if wanted.enabled else ["enabled"])
    if asked and not policy.exceptions:
        raise NotAllowed(
            f"its model.toml asks for exceptions from the sandbox ({', '.join(asked)}), which this gateway does not "
            "allow; start it with --allow-sandbox-exceptions if you trust the model"
        )
    if not wanted.enabled:
        return None
    linked = list(_links(config))
    outside = [link for link, _, leaves in linked if leaves]
    if outside and not policy.exceptions:
        raise NotAllowed(
            f"its file '{outside[0].name}' is a link to a file outside the model's folder; put the file itself there, "
            "or start the gateway with --allow-sandbox-exceptions if you trust the model"
        )
    folders = [os.path.realpath(path) for path in config.readable]
    # The box is an argument of the worker's command line, which thousands of links would make too long.
    targets = dict.fromkeys(target for _, target, _ in linked if not _is_in(target, folders))
    read = [str(runtime), *map(str, config.readable), *targets, *wanted.read]
    return Box(tuple(read), network=wanted.network)


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(os.path.commonpath([path, each]) == each for each in folders)


def _links(config: ModelConfig) -> Iterator[tuple[Path, str, bool]]:
    """Yield each link in the folders that the model may read, its target, and whether that is outside the model.

    A link to the folder of a model or of a version was put there by whoever made the repository. A link in such a
    folder may have come with the model.
    """
    own = [os.path.realpath(path) for path in (*config.readable, config.folder) if path is not None]
    seen: set[str] = set()
    waiting = [os.fspath(path) for path in config.readable]
    while waiting:
        top = waiting.pop()
        for folder, folders, files in os.walk(top):
            for name in (*folders, *files):
                link = os.path.join(folder, name)
                target = os.path.realpath(link)
                if not os.path.islink(link) or not os.path.exists(target):
                    continue
                yield Path(link), target, not _is_in(target, own)
                if target not in seen and os.path.isdir(target):
                    waiting.append(target)
                seen.add(target)
