"""What a program asks for when it loads a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gateway.config import explain
from gateway.errors import InvalidRequest
from gateway.repository.model_config import ModelConfig
from gateway.repository.model_toml import ModelToml

if TYPE_CHECKING:
    from gateway.embedded.model import Model


@dataclass(frozen=True)
class ModelSpec:
    """How to load a model: the arguments of `modelport.load`, which describes them. It can be pickled.

    A loaded model cannot: it has a process on this machine. Send its spec (`model.spec`) to the other process or
    machine, whose `load` finds the same files there.
    """

    location: str
    version: str = ""
    device: str = "cpu"
    threads: int | None = None
    instances: int = 1
    max_batch_size: int | None = None
    timeout_s: float | None = None
    allow_python: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self, progress: bool = True) -> "Model":
        """Load the model: see `modelport.load`."""
        from gateway.embedded.model import Model

        return Model(self, progress)

    def configure(self, config: ModelConfig) -> ModelConfig:
        """Return the model's configuration with what the program asks for. Raises InvalidRequest."""
        values: dict[str, Any] = {"device": self.device, "instances": self.instances, **self.settings, "load": "always"}
        if self.threads is not None:
            values["threads"] = self.threads
        if self.max_batch_size is not None:
            values["max_batch_size"] = self.max_batch_size
        try:
            asked = ModelToml.model_validate(values)
        except ValidationError as error:
            raise InvalidRequest(explain(error, lambda _: "modelport.load", ModelToml)) from None
        if config.steps:  # the models that it runs have their own settings
            return config
        changed = {key: getattr(asked, key) for key in asked.model_fields_set}
        return replace(config, toml=config.toml.model_copy(update=changed))
