"""The control requests that fronts send on behalf of clients: a handler for each verb of domain/control.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.config import Settings
from gateway.domain.control import (
    CancelExport,
    ChangeLogSettings,
    ChangeTraceSettings,
    ChangeTraffic,
    ControlHandlers,
    ExplainConfiguration,
    GetArtifact,
    GetConfiguration,
    GetExport,
    GetExportArchive,
    GetIndex,
    GetMetrics,
    GetOverview,
    GetPlaces,
    GetSecurity,
    GetStatistics,
    GetTraffic,
    LoadModel,
    PromoteVersion,
    RegisterRegion,
    RollBackTraffic,
    StartExport,
    UnloadModel,
    UnregisterRegion,
)
from gateway.domain.shared_memory import Region
from gateway.domain.uploads import fetch_upload
from gateway.lifecycle.load_requests import LoadRequests
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.overrides import Override
from gateway.metrics.collector import MetricsAggregator
from gateway.metrics.exposition import render
from gateway.metrics.selection import select
from gateway.metrics.triton_statistics import model_statistics
from gateway.supervisor.explanation import explain
from gateway.supervisor.export_jobs import ExportJobs
from gateway.supervisor.front_state import FrontState
from gateway.supervisor.fronts import Fronts
from gateway.supervisor.graph_files import GraphFiles
from gateway.supervisor.overview import OverviewReader
from gateway.supervisor.security import SecurityStatus


@dataclass(frozen=True)
class ControlRequests:
    """Those who do what the requests ask for. registry: all metrics, of which `metrics` has those of the fronts."""

    settings: Settings
    run_dir: Path
    manager: Manager
    loads: LoadRequests
    fronts: Fronts
    state: FrontState
    exports: ExportJobs
    graph_files: GraphFiles
    overview: OverviewReader
    security: SecurityStatus
    metrics: MetricsAggregator
    registry: CollectorRegistry

    def handlers(self) -> ControlHandlers:
        versions, state, exports, handlers = self.manager.versions, self.state, self.exports, ControlHandlers()
        handlers.add(GetIndex, lambda _: self.manager.index())
        handlers.add(LoadModel, self._load)
        handlers.add(UnloadModel, self._unload)
        handlers.add(GetPlaces, lambda _: self.loads.places())
        handlers.add(GetConfiguration, lambda request: versions.find(request.name, request.version).configuration())
        handlers.add(ExplainConfiguration, self._explain)
        handlers.add(GetArtifact, self._artifact)
        handlers.add(GetMetrics, lambda request: render(select(self.registry, request.patterns), request.accept))
        handlers.add(GetOverview, lambda _: self.overview.read())
        handlers.add(GetSecurity, lambda _: self.security.to_json())
        handlers.add(GetStatistics, self._statistics)
        handlers.add(ChangeLogSettings, lambda request: state.change_log(request.changes).to_json())
        handlers.add(ChangeTraceSettings, self._change_traces)
        handlers.add(GetTraffic, lambda request: state.traffic.get(request.name))
        handlers.add(ChangeTraffic, self._change_traffic)
        handlers.add(PromoteVersion, self._promote)
        handlers.add(RollBackTraffic, self._roll_back)
        handlers.add(RegisterRegion, self._register)
        handlers.add(UnregisterRegion, lambda request: state.unregister(request.name))
        handlers.add(StartExport, lambda request: exports.start(request.name, request.version, request.options))
        handlers.add(GetExport, lambda request: exports.status(request.name, request.export))
        handlers.add(GetExportArchive, lambda request: exports.result(request.name, request.export))
        handlers.add(CancelExport, lambda request: exports.cancel(request.name, request.export))
        return handlers

    async def _load(self, request: LoadModel) -> None:
        override = None
        if request.place:
            override = Override(folder=Path(request.place))
        elif request.upload:
            override = Override(request.configuration, fetch_upload(self.run_dir, request.upload), is_temporary=True)
        elif request.configuration is not None:
            override = Override(request.configuration)
        await self.loads.load(request.name, override)
        await self.fronts.until_applied()

    async def _unload(self, request: UnloadModel) -> None:
        await self.loads.unload(request.name)
        await self.fronts.until_applied()

    def _explain(self, request: ExplainConfiguration) -> list[dict[str, Any]]:
        version = self.manager.versions.find(request.name, request.version)
        return explain(version, self.manager.status(version), self.settings)

    async def _artifact(self, request: GetArtifact) -> dict[str, Any]:
        versions = self.manager.versions
        return await self.graph_files.of(versions.find(request.name, request.version or versions.newest(request.name)))

    async def _statistics(self, request: GetStatistics) -> dict[str, Any]:
        await self.fronts.request_metrics()
        return model_statistics(self.metrics.totals(), [(name, version) for name, version in request.versions])

    async def _change_traces(self, request: ChangeTraceSettings) -> dict[str, Any]:
        return (await self.state.change_traces(request.name, request.changes)).to_json()

    async def _change_traffic(self, request: ChangeTraffic) -> dict[str, Any]:
        return await self.state.change_traffic(request.name, lambda each: each.change(request.name, request.changes))

    async def _promote(self, request: PromoteVersion) -> dict[str, Any]:
        return await self.state.change_traffic(request.name, lambda each: each.promote(request.name, request.version))

    async def _roll_back(self, request: RollBackTraffic) -> dict[str, Any]:
        return await self.state.change_traffic(request.name, lambda each: each.roll_back(request.name))

    async def _register(self, request: RegisterRegion) -> None:
        await self.state.register(Region(request.name, request.key, request.offset, request.byte_size))
