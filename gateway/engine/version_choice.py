"""Chooses the version for requests that name none, for the models whose traffic is divided among versions."""

from collections.abc import Mapping
from random import Random

from gateway.domain.identity import Identity
from gateway.domain.traffic import Division, Traffic, divide
from gateway.domain.types import InferRequest, ModelStatus, select_version
from gateway.errors import Unavailable
from runtimes.contract import SequenceControl

# Sequences whose version is remembered. A sequence that is forgotten goes where the weights send it, which is another
# version only if they have changed since it started.
_MAX_SEQUENCES = 65_536


class VersionChoice:
    """What the newest table says of the traffic of models, and where sequences have started.

    sticky_headers  model → its sticky header, for the models that have one
    """

    def __init__(self, random: Random | None = None) -> None:
        self.sticky_headers: Mapping[str, str] = {}
        self._traffic: Mapping[str, Traffic] = {}
        self._versions: Mapping[str, list[ModelStatus]] = {}
        self._divisions: Mapping[str, Division] = {}
        self._sequences: dict[tuple[str, int | str], str] = {}
        self._random = random or Random()

    def apply(self, traffic: Mapping[str, Traffic], versions: Mapping[str, list[ModelStatus]]) -> None:
        """Apply the newest table. versions: of each model, the newest first."""
        self._traffic, self._versions = traffic, versions
        divisions = {name: divide(each, versions.get(name, ())) for name, each in traffic.items()}
        self._divisions = {name: division for name, division in divisions.items() if division is not None}
        self.sticky_headers = {name: each.sticky_header for name, each in traffic.items() if each.sticky_header}

    def divides(self, model: str) -> bool:
        """Whether requests for this model that name no version do not all go to the newest that is READY."""
        return model in self._traffic and any(self._traffic[model].weights.values())

    def candidates(self, model: str, versions: list[ModelStatus]) -> list[ModelStatus]:
        """Return which of a model's versions a request without a version may mean. Thread-safe.

        That is the version with the highest weight that is READY. If none is, it is those with a weight: others may not
        have been tried yet, so they do not stand in. Raises Unavailable if none with a weight is loaded.
        """
        division, traffic = self._divisions.get(model), self._traffic.get(model)
        if division is not None:
            return [division.primary]
        weighted = [version for version, weight in traffic.weights.items() if weight] if traffic else []
        if not weighted:
            return versions
        found = [status for status in versions if status.version in weighted]
        if not found:
            raise Unavailable(
                f"model '{model}' has no loaded version with a weight, only {', '.join(weighted)} may answer requests "
                "that name no version; name one, or change the weights"
            )
        return found

    def choose(self, request: InferRequest, identity: Identity | None) -> str:
        """Return the version for a request; "" if it names one, or if its model's traffic is not divided.

        A sequence stays where it started, as long as that version admits requests, even if the traffic was not divided
        then, or no longer is.
        """
        if request.version:
            return ""
        division = self._divisions.get(request.model)
        if request.sequence is not None:
            return self._choose_for_sequence(division, request.model, request.sequence)
        if division is None:
            return ""
        if request.affinity:
            return division.choose(b"header " + request.affinity.encode())
        if identity is not None and self._traffic[request.model].sticky_identity:
            return division.choose(b"identity " + identity.name.encode())
        return division.choose(self._random.randbytes(8))

    def apply_to(self, request: InferRequest, identity: Identity | None) -> InferRequest:
        """Return the request for the version that is chosen.

        Its answer has the outputs of the primary version, because clients and dialects expect those: with one output
        more, some have another form.
        """
        version = self.choose(request, identity)
        if not version:
            return request
        request = request._replace(version=version)
        division = self._divisions.get(request.model)
        if division is None or request.outputs or division.primary.version == version:
            return request
        chosen = next(status for status in self._versions[request.model] if status.version == version)
        expected, served = _outputs(division.primary, request), _outputs(chosen, request)
        if expected == served or not expected or not set(expected) <= set(served):
            return request
        return request._replace(outputs=expected, layout=None)

    def _choose_for_sequence(self, division: Division | None, model: str, sequence: SequenceControl) -> str:
        number = sequence.id
        key = model, number
        started = self._sequences.pop(key, None)  # and put back as the newest
        if division is not None:
            version = division.choose(f"sequence {type(number).__name__} {number}".encode())
        else:
            versions = self._versions.get(model, [])
            if started is None and not any(status.sequence for status in versions):
                return ""  # it has no sequences, whatever this client thinks
            newest = select_version(self.candidates(model, versions), "")
            version = newest.version if newest else ""
        if started is not None and not sequence.start and self._admits(model, started):
            version = started
        if not sequence.end:
            if len(self._sequences) >= _MAX_SEQUENCES:
                del self._sequences[next(iter(self._sequences))]
            self._sequences[key] = version
        return version

    def _admits(self, model: str, version: str) -> bool:
        return any(status.version == version and status.admits for status in self._versions.get(model, ()))


def _outputs(status: ModelStatus, request: InferRequest) -> tuple[str, ...]:
    """Return the names of the outputs with which a version answers a request that names none, in their order."""
    signature = status.signature(request.signature)
    return () if signature is None else tuple(signature.outputs_from([tensor.name for tensor in request.inputs]))
