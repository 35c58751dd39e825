"""What the gateway has to know of an archive's handler, the program that answers its requests, without running it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.environments.small_file import read_small
from gateway.environments.yaml_file import BrokenYaml, read_yaml

# As extras of the runtime `python` are called: the packages of the server for which a handler was written.
TORCHSERVE, MULTI_MODEL_SERVER, SAGEMAKER = "torchserve", "multi-model-server", "sagemaker"
REQUIREMENTS = "requirements.txt"
_MAX_BYTES = 4 << 20  # of a program
# TorchServe's classes for images and texts import packages that its base class does without.
_VISION = re.compile(rb"\bts\.torch_handler(\.|\s+import\s+)(vision_|image_|object_|densenet_|dali_)|\btorchvision\b")
_CAPTUM = re.compile(rb"\bts\.torch_handler(\.|\s+import\s+)text_|\bcaptum\b")
_TORCH = re.compile(rb"^\s*(import|from)\s+torch\b", re.MULTILINE)
_MXNET = re.compile(rb"^\s*(import|from)\s+mxnet\b", re.MULTILINE)
# model-config.yaml's keys and those of model.toml, whose units are the same.
_DELAY = "maxBatchDelay"
_SETTINGS = {
    "batchSize": "max_batch_size",
    _DELAY: "queue_delay_ms",
    "responseTimeout": "execution_timeout_s",
    "startupTimeout": "load_timeout_s",
}
_MAX_NUMBER = 60_000
# Handlers cannot do with generated requests, and not all of them can do with several requests at once.
_FOR_CLIENTS_ONLY: Mapping[str, Any] = {"max_batch_size": 1, "warmup": 0}


class BrokenArchive(Exception):
    """The message is one sentence that says what is wrong with the archive."""


class Handler(NamedTuple):
    """A handler that the runtime `python` runs.

    name          as the archive names it, such as handler.py, service:handle or text_classifier
    file          that the runtime loads, in the archive's folder: its manifest, or SageMaker's inference.py
    extras        of the runtime, with the packages that its server has
    requirements  the file that names further packages; "" if it has none
    settings      keys of model.toml
    alternative   the runtime that could serve the model without it; "" if there is none
    """

    name: str
    file: str
    extras: tuple[str, ...] = ()
    requirements: str = ""
    settings: Mapping[str, Any] = _FOR_CLIENTS_ONLY
    alternative: str = ""

    @property
    def not_run(self) -> str:
        """The warning if the model is served without it."""
        return (
            f"its handler {self.name} is a program, which is not run: requests are for the model itself, unless "
            'model.toml has runtime = "python"'
        )


def extras_of(folder: Path, server: str, name: str) -> tuple[str, ...]:
    """Return the extras that a handler needs: those of its server, and those of what its programs import.

    name: of one of TorchServe's own handlers; "" if it is a program in the archive

    Raises BrokenArchive.
    """
    programs = [f"import ts.torch_handler.{name}".encode()] if name else []
    for file in sorted((*folder.glob("*.py"), *folder.glob("code/*.py"))):
        programs.append(read_small(file, _MAX_BYTES, BrokenArchive))
    text = b"\n".join(programs)
    found = [server] if server != SAGEMAKER else []
    if server == TORCHSERVE and _VISION.search(text):
        found.append("torchserve-vision")
    elif server == TORCHSERVE and _CAPTUM.search(text):
        found.append("captum")
    if server == SAGEMAKER and _TORCH.search(text):
        found.append("torch")
    if server != TORCHSERVE and _MXNET.search(text):
        found.append("apache-mxnet")
    return tuple(found)


def read_settings(file: Path) -> Mapping[str, Any]:
    """Return the keys of model.toml that a model-config.yaml stands for. Raises BrokenArchive."""
    settings = dict(_FOR_CLIENTS_ONLY)
    try:
        document = read_yaml(file)
    except BrokenYaml as error:
        raise BrokenArchive(str(error)) from None
    for key, name in _SETTINGS.items():
        text = document.get(key)
        if text is None:
            continue
        least = 0 if key == _DELAY else 1
        if not isinstance(text, str) or not re.fullmatch(r"\d{1,5}", text) or not least <= int(text) <= _MAX_NUMBER:
            raise BrokenArchive(f"its {file.name} must have a whole number from {least} to {_MAX_NUMBER} as {key}")
        settings[name] = int(text)
    return settings
