"""The table [sequence] of model.toml."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from runtimes.contract import DATATYPES
from runtimes.control import ControlTensor, SequenceOptions, SequenceState

_FLAGS, _IDS = ("BOOL", "INT32", "FP32"), ("UINT64", "INT64", "UINT32", "INT32", "BYTES")
# Triton's folder of initial states, next to the version folders.
INITIAL_STATES = "initial_state"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_datatype(value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"its datatype must be one of {', '.join(allowed)}")


class ControlToml(_Strict):
    """An input that modelport makes: a flag of the sequence, or its id. `values`: of a flag, if false and if true."""

    kind: Literal["START", "READY", "END", "CORRID"]
    input: str = Field(min_length=1)
    datatype: str = ""
    values: tuple[float, float] = (0, 1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _check_datatype(self.spec().datatype, _IDS if self.kind == "CORRID" else _FLAGS)
        return self

    def spec(self) -> ControlTensor:
        datatype = self.datatype or ("UINT64" if self.kind == "CORRID" else "INT32")
        return ControlTensor(self.kind, self.input, datatype, *self.values)


class StateToml(_Strict):
    """A state that modelport keeps.

    shape          of one sequence's state, without the batch dimension; -1 is any size
    initial_shape  if `shape` has a size that is not known
    dim            the dimension of the input and of the output that counts sequences
    initial        a file of the bytes, in the model's folder initial_state; empty for zeros
    """

    input: str = Field(min_length=1)
    output: str = Field(min_length=1)
    datatype: str
    shape: tuple[int, ...]
    initial_shape: tuple[int, ...] | None = None
    dim: int = Field(0, ge=0, le=8)
    initial: str = ""

    @field_validator("datatype")
    @classmethod
    def _known(cls, value: str) -> str:
        _check_datatype(value, DATATYPES)
        return value

    @field_validator("initial")
    @classmethod
    def _in_folder(cls, value: str) -> str:
        if value in (".", "..") or "/" in value or "\0" in value:
            raise ValueError(f"it must be the name of a file in the model's folder {INITIAL_STATES}")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if any(size < -1 or size == 0 for size in self.shape):
            raise ValueError("every size of shape must be positive, or -1 for any")
        first = self.shape if self.initial_shape is None else self.initial_shape
        if len(first) != len(self.shape) or any(
            size < 0 or known not in (-1, size) for size, known in zip(first, self.shape, strict=True)
        ):
            raise ValueError("initial_shape must be complete, and agree with shape")
        if self.dim > len(self.shape):
            raise ValueError("dim must be at most the number of sizes in shape")
        return self

    def spec(self, folder: Path) -> SequenceState:
        file = str(folder / INITIAL_STATES / self.initial) if self.initial else ""
        initial = self.shape if self.initial_shape is None else self.initial_shape
        return SequenceState(self.input, self.output, self.datatype, self.shape, initial, self.dim, file)


class SequenceToml(_Strict):
    """How a model's requests form sequences: see SequenceOptions, whose fields these are."""

    strategy: Literal["direct", "oldest"] = "direct"
    idle_timeout_s: float = Field(1.0, gt=0, le=86_400)
    max_sequences: int = Field(0, ge=0, le=65536)
    delay_ms: float = Field(0.0, ge=0, le=60_000)
    controls: tuple[ControlToml, ...] = ()
    states: tuple[StateToml, ...] = ()

    @model_validator(mode="after")
    def _differ(self) -> Self:
        inputs = [each.input for each in self.controls] + [each.input for each in self.states]
        _check_differ("the input", inputs)
        _check_differ("the control", [each.kind for each in self.controls])
        _check_differ("the output", [each.output for each in self.states])
        return self

    def options(self, folder: Path) -> SequenceOptions:
        """Return what a worker needs to know. `folder` is the model's."""
        return SequenceOptions(
            self.strategy,
            self.idle_timeout_s,
            self.max_sequences,
            self.delay_ms / 1000,
            tuple(each.spec() for each in self.controls),
            tuple(each.spec(folder) for each in self.states),
        )


def _check_differ(what: str, names: Iterable[str]) -> None:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name} is there twice")
        seen.add(name)
