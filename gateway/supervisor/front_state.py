"""What every front knows: the table, with traffic and shared memory; the settings of the log and of traces; the policy;
the certificate. A front that is started gets all of it, and every front gets what changes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from gateway.access.policy import Policy
from gateway.domain.log_settings import LogSettings
from gateway.domain.shared_memory import Region, RegionRegistry
from gateway.domain.table import Table
from gateway.domain.trace_settings import TraceSettings, TraceTable
from gateway.process.channel import TRACE_SETTINGS
from gateway.process.tls import Pem
from gateway.supervisor.certificates import Certificates
from gateway.supervisor.front_process import (
    Message,
    log_message,
    policy_message,
    table_changes_message,
    table_message,
    tls_message,
)
from gateway.supervisor.fronts import Fronts
from gateway.supervisor.identities import Identities
from gateway.supervisor.log_output import LogOutput
from gateway.supervisor.traffic import TrafficBook


class FrontState:
    """traffic: what it has changed at run time reaches fronts by `change_traffic`."""

    def __init__(
        self,
        fronts: Fronts,
        traffic: TrafficBook,
        log_output: LogOutput,
        traces: TraceTable,
        identities: Identities,
        certificates: Certificates,
    ) -> None:
        self.traffic = traffic
        self._fronts = fronts
        self._log_output = log_output
        self._traces = traces
        self._identities = identities
        self._certificates = certificates
        self._table = Table()
        self._regions = RegionRegistry()

    def current(self, front: int) -> Iterator[Message]:
        """Yield what the front with this number must know, in this order, before it serves."""
        yield log_message(self._log_output.settings)
        yield self._trace_message(front)
        if (policy := self._identities.policy) is not None:
            yield policy_message(policy)
        if self._certificates.tls is not None:
            yield tls_message(self._certificates.tls.pem)
        yield table_message(self._table)

    def publish_table(self, table: Table) -> None:
        """Send what has changed of the manager's table, with the traffic and the regions of shared memory."""
        traffic = self.traffic.apply([entry.status for entry in table.entries])
        regions = tuple(self._regions.regions.values())
        before, self._table = self._table, replace(table, regions=regions, traffic=traffic)
        self._fronts.send(table_changes_message(before, self._table))

    def publish_policy(self, policy: Policy) -> None:
        self._fronts.send(policy_message(policy))

    def publish_certificate(self, pem: Pem) -> None:
        self._fronts.send(tls_message(pem))

    def change_log(self, changes: Mapping[str, Any]) -> LogSettings:
        """Change settings of the log, if there are changes, and return those in force: see LogOutput.change."""
        if changes:
            self._log_output.change(changes)
            self._fronts.send(log_message(self._log_output.settings))
        return self._log_output.settings

    async def change_traces(self, model: str, changes: Mapping[str, Any]) -> TraceSettings:
        """Change a model's trace settings, if there are changes, and return those in force: see TraceTable.change."""
        await self._fronts.request_metrics()  # they say what was traced
        if changes:
            self._traces.change(model, changes)
            for front in self._fronts:
                front.send(self._trace_message(front.number))
        return self._traces.settings(model)

    async def change_traffic(self, model: str, change: Callable[[TrafficBook], None]) -> dict[str, Any]:
        """Change the traffic of a model, and return what is in force, when all fronts have applied it."""
        change(self.traffic)
        await self._publish_to_all()
        return self.traffic.get(model)

    async def register(self, region: Region) -> None:
        """Returns when all fronts know the region. Raises what RegionRegistry.register does."""
        self._regions.register(region)
        await self._publish_to_all()

    async def unregister(self, name: str) -> None:
        """Returns when no front knows the region any more; all regions if the name is ""."""
        self._regions.unregister(name)
        await self._publish_to_all()

    async def _publish_to_all(self) -> None:
        self.publish_table(self._table)
        await self._fronts.until_applied()

    def _trace_message(self, front: int) -> Message:
        return Message(TRACE_SETTINGS, self._traces.to_front(front, self._fronts.count))
