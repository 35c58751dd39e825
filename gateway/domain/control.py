"""The control requests that the processes of a gateway send to each other: a record per verb, with its result type.

They are sent as JSON (gateway/process/channel.py): the name of the record and its fields.

A new verb is a record here, a line in `ControlRequests.handlers` and one in `FakeEngine._control_handlers`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from gateway.errors import NotFound

ResultT = TypeVar("ResultT")
_Verb = TypeVar("_Verb", bound="ControlRequest[Any]")


class ControlRequest(Generic[ResultT]):
    """The base of all verbs. Results must be JSON values."""


# -- from a front to the supervisor -------------------------------------------------------------------------------


@dataclass(frozen=True)
class GetIndex(ControlRequest[list[dict[str, str]]]):
    """Return every version as {name, version, state, reason}."""


@dataclass(frozen=True)
class LoadModel(ControlRequest[None]):
    """Scan the model's files again, and wait until it is loaded or has failed.

    configuration  Triton's, in JSON, in place of the model's; None: the model's
    upload         the folder with files in place of the model's, in that of the front's uploads; "": the model's files
    place          a path outside the repository, where the model is; "": in the repository
    """

    name: str
    configuration: str | None = None
    upload: str = ""
    place: str = ""


@dataclass(frozen=True)
class GetPlaces(ControlRequest[dict[str, str]]):
    """Return the models that were loaded from a place outside the repository: name → path."""


@dataclass(frozen=True)
class UnloadModel(ControlRequest[None]):
    name: str


@dataclass(frozen=True)
class GetConfiguration(ControlRequest[Mapping[str, Any]]):
    """Return a version's configuration, as `ModelVersion.configuration` does."""

    name: str
    version: str


@dataclass(frozen=True)
class ExplainConfiguration(ControlRequest[list[dict[str, Any]]]):
    """Return a version's values in force, as {key, value, source, note}: see gateway/supervisor/explanation.py."""

    name: str
    version: str


@dataclass(frozen=True)
class GetArtifact(ControlRequest[dict[str, Any]]):
    """Return {name, version, platform, main, files} of a version's artifact; of the newest version if it is "".

    main   the name of the file that describes the model
    files  name → path. They are all there is, so no other file can be reached by a name
    """

    name: str
    version: str


@dataclass(frozen=True)
class GetMetrics(ControlRequest[Sequence[str]]):
    """Return the content type and text of the metrics, including the newest ones of the front that sends this.

    patterns  of the models whose metrics are wanted, as in roles; by default, all metrics
    accept    the Accept header of the client, which may ask for OpenMetrics
    """

    patterns: Sequence[str] = ("*",)
    accept: str = ""


@dataclass(frozen=True)
class GetOverview(ControlRequest[dict[str, Any]]):
    """Return what the console shows of all models and of the server: see gateway/supervisor/overview.py."""


@dataclass(frozen=True)
class GetSecurity(ControlRequest[dict[str, Any]]):
    """Return what protects the gateway: feature → {enforced, reason}."""


@dataclass(frozen=True)
class ChangeLogSettings(ControlRequest[dict[str, Any]]):
    """Change log settings, and return all of them: see LogSettings. Without changes, they are only returned."""

    changes: Mapping[str, Any]


@dataclass(frozen=True)
class ChangeTraceSettings(ControlRequest[dict[str, Any]]):
    """Change trace settings of a model, or with "" those of all models, and return them: see TraceTable.

    Without changes, they are only returned.
    """

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class GetStatistics(ControlRequest[dict[str, Any]]):
    """Return Triton's statistics of these [name, version] pairs, with the newest metrics of all fronts."""

    versions: Sequence[Sequence[str]]


@dataclass(frozen=True)
class GetTraffic(ControlRequest[dict[str, Any]]):
    """Return a model's traffic, as `TrafficBook.get` does."""

    name: str


@dataclass(frozen=True)
class ChangeTraffic(ControlRequest[dict[str, Any]]):
    """Change keys of a model's traffic, and return it. The keys are those of [traffic] in model.toml."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class PromoteVersion(ControlRequest[dict[str, Any]]):
    """Have a version get all requests that name none, and return the model's traffic."""

    name: str
    version: str


@dataclass(frozen=True)
class RollBackTraffic(ControlRequest[dict[str, Any]]):
    """Undo the newest change of a model's traffic, and return it."""

    name: str


@dataclass(frozen=True)
class RegisterRegion(ControlRequest[None]):
    """Register a region of system shared memory. key: as for shm_open; offset and byte_size: in bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


@dataclass(frozen=True)
class UnregisterRegion(ControlRequest[None]):
    """Unregister a region; all of them if the name is ""."""

    name: str


@dataclass(frozen=True)
class StartExport(ControlRequest[dict[str, Any]]):
    """Start an export and return its status. options: flags of `modelport export`, without dashes → values."""

    name: str
    version: str
    options: Mapping[str, str]


@dataclass(frozen=True)
class GetExport(ControlRequest[dict[str, Any]]):
    """Return an export's status. export: its id."""

    name: str
    export: str


@dataclass(frozen=True)
class GetExportArchive(ControlRequest[str]):
    """Return the path of an export's zip archive. Raises Unavailable while the export is running."""

    name: str
    export: str


@dataclass(frozen=True)
class CancelExport(ControlRequest[None]):
    """Stop an export, and delete its result."""

    name: str
    export: str


# -- from the supervisor to a front -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SendMetrics(ControlRequest[None]):
    """Have the front send its current metrics, which arrive before the reply."""


VERBS: Mapping[str, type[ControlRequest[Any]]] = {kind.__name__: kind for kind in ControlRequest.__subclasses__()}


def to_json(request: ControlRequest[Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of the verb, and its fields by name."""
    kind = type(request)
    return kind.__name__, {each.name: getattr(request, each.name) for each in fields(kind)}  # type: ignore[arg-type]


def from_json(verb: str, arguments: Mapping[str, Any]) -> ControlRequest[Any]:
    """Return the record. Raises NotFound for an unknown verb, and TypeError for unknown or missing fields."""
    if verb not in VERBS:
        raise NotFound(f"there is no control verb '{verb}'")
    return VERBS[verb](**arguments)


class ControlHandlers:
    """The functions that handle the verbs that a process supports."""

    def __init__(self) -> None:
        self._handlers: dict[type[ControlRequest[Any]], Callable[[Any], Any]] = {}

    def add(self, verb: type[_Verb], handler: Callable[[_Verb], Awaitable[Any] | Any]) -> None:
        self._handlers[verb] = handler

    @property
    def verbs(self) -> frozenset[type[ControlRequest[Any]]]:
        return frozenset(self._handlers)

    async def on_call(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """Handle a request that arrived by a `Channel`."""
        return await self(from_json(verb, arguments))

    async def __call__(self, request: ControlRequest[ResultT]) -> ResultT:
        """Return the handler's result. Raises NotFound if there is no handler, and what the handler raises."""
        handler = self._handlers.get(type(request))
        if handler is None:
            raise NotFound(f"this process does not handle '{type(request).__name__}'")
        returned = handler(request)
        result: ResultT = await returned if isawaitable(returned) else returned
        return result
