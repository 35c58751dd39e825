"""What the processes of one gateway ask of each other: a record for each verb, with its fields and the type of
its answer. They travel as JSON (gateway/process/channel.py), by the record's name and fields.

A new verb is a record here, a line in `Supervisor` (`_answer_fronts`) and one in `FakeEngine` (`_answer`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from gateway.errors import NotFound

AnswerT = TypeVar("AnswerT")
_Verb = TypeVar("_Verb", bound="ControlRequest[Any]")


class ControlRequest(Generic[AnswerT]):
    """The base of all verbs. The answer consists of what JSON has: dictionaries, lists, strings, numbers."""


# -- by a front, of the supervisor -------------------------------------------------------------------------------


@dataclass(frozen=True)
class GetIndex(ControlRequest[list[dict[str, str]]]):
    """Every version as {name, version, state, reason}."""


@dataclass(frozen=True)
class LoadModel(ControlRequest[None]):
    """Look at the model's files again, and wait until it is loaded or has failed."""

    name: str


@dataclass(frozen=True)
class UnloadModel(ControlRequest[None]):
    name: str


@dataclass(frozen=True)
class GetConfiguration(ControlRequest[Mapping[str, Any]]):
    """How a version is served: what `Served.configuration` returns."""

    name: str
    version: str


@dataclass(frozen=True)
class GetMetrics(ControlRequest[str]):
    """Prometheus' text, with the newest figures of the front that asks."""


@dataclass(frozen=True)
class GetStatistics(ControlRequest[dict[str, Any]]):
    """Triton's statistics of these [name, version] pairs, with the newest figures of all fronts."""

    versions: Sequence[Sequence[str]]


@dataclass(frozen=True)
class RegisterRegion(ControlRequest[None]):
    """A region of system shared memory. key: as in shm_open; offset and byte_size: in bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


@dataclass(frozen=True)
class UnregisterRegion(ControlRequest[None]):
    """name: "" for all regions."""

    name: str


@dataclass(frozen=True)
class StartExport(ControlRequest[dict[str, Any]]):
    """The answer is the export's status. options: flags of `modelport export`, without dashes → values."""

    name: str
    version: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class GetExport(ControlRequest[dict[str, Any]]):
    """Its status. export: the id."""

    name: str
    export: str


@dataclass(frozen=True)
class GetExportArchive(ControlRequest[str]):
    """The path of the zip archive. Raises Unavailable while the export is running."""

    name: str
    export: str


@dataclass(frozen=True)
class CancelExport(ControlRequest[None]):
    """End the export and delete its result."""

    name: str
    export: str


# -- by the supervisor, of a front -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SendFigures(ControlRequest[None]):
    """The front's figures of now arrive before the answer does."""


VERBS: Mapping[str, type[ControlRequest[Any]]] = {kind.__name__: kind for kind in ControlRequest.__subclasses__()}


def to_json(request: ControlRequest[Any]) -> tuple[str, dict[str, Any]]:
    """The name of the verb, and its fields by name."""
    kind = type(request)
    return kind.__name__, {each.name: getattr(request, each.name) for each in fields(kind)}  # type: ignore[arg-type]


def from_json(verb: str, arguments: Mapping[str, Any]) -> ControlRequest[Any]:
    """Raises NotFound for a verb that does not exist, TypeError for fields that it does not have."""
    if verb not in VERBS:
        raise NotFound(f"there is no control verb '{verb}'")
    return VERBS[verb](**arguments)


class Answers:
    """One function for each verb that a process answers: the dispatch table."""

    def __init__(self) -> None:
        self._functions: dict[type[ControlRequest[Any]], Callable[[Any], Any]] = {}

    def add(self, verb: type[_Verb], answer: Callable[[_Verb], Awaitable[Any] | Any]) -> None:
        self._functions[verb] = answer

    @property
    def verbs(self) -> frozenset[type[ControlRequest[Any]]]:
        return frozenset(self._functions)

    async def on_call(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """What `Channel` calls with a request of the other side."""
        return await self(from_json(verb, arguments))

    async def __call__(self, request: ControlRequest[AnswerT]) -> AnswerT:
        """Raises NotFound where nobody answers this verb, and what the function raises."""
        function = self._functions.get(type(request))
        if function is None:
            raise NotFound(f"this process does not answer '{type(request).__name__}'")
        result = function(request)
        answer: AnswerT = await result if isawaitable(result) else result
        return answer
