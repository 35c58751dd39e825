"""Reads Triton's model configuration in JSON, which a request to load a model may bring, as a ModelToml."""

import json
import re
from collections.abc import Mapping

from google.protobuf import json_format

from gateway.environments.runtime import Runtime
from gateway.errors import shorten
from gateway.generated import model_config_pb2 as pb
from gateway.repository.model_toml import ModelConfigError, ModelToml
from gateway.repository.pbtxt import read_settings

NAME = "the configuration in the request"
_UNKNOWN = re.compile(r'no field named "(\w+)"')


def read_config_json(text: str, name: str, runtimes: Mapping[str, Runtime]) -> tuple[ModelToml, list[str]]:
    """Return the settings for the model `name`, and the names of those that are ignored. Raises ModelConfigError."""
    config, unknown = pb.ModelConfig(), list[str]()
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ModelConfigError(f"{NAME} must be a JSON object")
        try:
            json_format.ParseDict(document, config)
        except json_format.ParseError as error:  # perhaps a field of a newer Triton
            unknown = _UNKNOWN.findall(str(error))
            config = json_format.ParseDict(document, pb.ModelConfig(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, RecursionError) as error:
        reason = shorten(" ".join(str(error).split()), 200)
        raise ModelConfigError(f"{NAME} is not one of Triton's, in JSON: {reason}") from None
    if config.name and config.name != name:
        raise ModelConfigError(f"{NAME} is for '{shorten(config.name)}', but the model is '{shorten(name)}'")
    toml, ignored = read_settings(config, NAME, runtimes)
    return toml, list(dict.fromkeys([*ignored, *unknown]))
