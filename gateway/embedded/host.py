"""One loaded model: a manager that runs its workers, and an engine that sends them requests, on the background's loop.

They are those of the gateway. There is one engine, as in a gateway with one front, and no transport.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.config import Settings, home
from gateway.domain.control import ControlRequest
from gateway.domain.table import Table
from gateway.domain.types import InferRequest, InferResponse, ModelStatus
from gateway.embedded.options import ModelSpec
from gateway.engine.admission import AdmissionLimits
from gateway.engine.admitted_requests import MAX_WAIT_S
from gateway.engine.arenas import open_arenas
from gateway.engine.engine import FrontEngine
from gateway.environments.builder import Builder
from gateway.environments.runtime import Runtime
from gateway.errors import Unavailable, Unsupported
from gateway.lifecycle.manager import Manager
from gateway.lifecycle.options import ManagerOptions
from gateway.lifecycle.policy import State
from gateway.lifecycle.run_dir import new_run_dir
from gateway.lifecycle.sandbox import SandboxPolicy
from gateway.lifecycle.starter import StarterOptions
from gateway.repository.model_config import ModelConfig

# The gateway limits what its clients may send and receive. Here, the program that sends a request has its tensors in
# memory anyway, so these limits are those of the wire.
_MAX_REQUESTS = 1 << 20
_MAX_BYTES = 1 << 40
_MAX_RESPONSE_BYTES = 1 << 31
# Of the shared memory through which large inputs reach a worker. It is sparse. What has no room goes by the socket.
_ARENA_BYTES = 1 << 30


class Host:
    """Use it on the background's loop, except `kill`.

    on_progress  called with each step of building the environment that the model waits for
    """

    def __init__(
        self,
        configs: list[ModelConfig],
        spec: ModelSpec,
        settings: Settings,
        runtimes: Mapping[str, Runtime],
        on_progress: Callable[[str], None],
    ) -> None:
        self._name, self._version = configs[0].name, configs[0].version
        self._on_progress = on_progress
        self._told = ""
        self._pid = os.getpid()
        self._run_dir, self._lock = new_run_dir()
        self._changed = asyncio.Event()
        accelerator = "cpu" if spec.device == "cpu" else "cuda"
        external = {name: each.python for name, each in settings.runtimes.items() if each.python}
        self._builder = Builder(home(), accelerator, external, frozenset(), self._refresh, settings.require_locks)
        workers = StarterOptions(
            run_dir=self._run_dir,
            accelerator=accelerator,
            max_response_bytes=_MAX_RESPONSE_BYTES,
            max_body_bytes=settings.max_body_bytes,
            audit_share=settings.audit_share,
            sandbox=SandboxPolicy(settings.sandbox, settings.allow_sandbox_exceptions, spec.allow_python),
            fork_workers=False,  # a zygote would be another process, for the sake of workers that are never started
        )
        options = ManagerOptions(Path(), workers, control="none", scan=lambda path, known: configs)
        self._manager = Manager(options, runtimes, self._builder, self._apply)
        limits = AdmissionLimits(_MAX_REQUESTS, _MAX_BYTES, spec.timeout_s or MAX_WAIT_S)
        self._engine = FrontEngine(
            0, limits, _refuse_control, open_arenas(_ARENA_BYTES), max_response_bytes=_MAX_RESPONSE_BYTES
        )
        self._running = asyncio.create_task(self._manager.run())
        self._closed: asyncio.Task[None] | None = None

    @property
    def status(self) -> ModelStatus:
        return self._engine.model(self._name, self._version)

    def _apply(self, table: Table) -> None:
        self._engine.apply(table)
        self._changed.set()

    def _refresh(self) -> None:
        """Say what the environment's build is doing, once for each step."""
        self._manager.refresh()
        for build in self._builder.builds():
            line = f"building the environment {build['runtime']}, once: {build['step']}"
            if build["step"] and line != self._told:
                self._told = line
                self._on_progress(line)

    async def ready(self) -> None:
        """Wait until the model is loaded. Raises Unavailable with the reason if it cannot be."""
        while True:
            self._changed.clear()
            status = next((each for each in self._engine.models() if each.version == self._version), None)
            if status is not None and status.name == self._name:
                if status.state == State.READY.value:
                    return
                if status.state == State.UNAVAILABLE.value:
                    raise Unavailable(f"failed to load '{self._name}': {status.reason}")
            await self._changed.wait()

    def submit(self, request: InferRequest, answer: "Future[InferResponse]") -> None:
        """Send a request. Cancelling the future cancels it."""
        try:
            admitted = self._engine.submit(request, lambda outcome: _resolve(answer, self._worded(outcome)))
        except Exception as error:
            _resolve(answer, self._worded(error))
            return
        loop = asyncio.get_running_loop()

        def cancel(answer: "Future[InferResponse]") -> None:
            if answer.cancelled():
                loop.call_soon_threadsafe(admitted.cancel)

        answer.add_done_callback(cancel)

    def _worded(self, outcome: InferResponse | Exception) -> InferResponse | Exception:
        """Return the outcome. The engine's sentence about its end is about a gateway."""
        if self._closed is not None and isinstance(outcome, Unavailable):
            return Unavailable(f"model '{self._name}' was closed before it answered")
        return outcome

    async def close(self) -> None:
        """Fail the requests in progress, and end the workers. Later calls wait for the first."""
        if self._closed is None:
            self._closed = asyncio.create_task(self._close())
        await asyncio.shield(self._closed)

    async def _close(self) -> None:
        await self._engine.drain(0)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._engine.apply(Table())
        await self._builder.close()
        await self._manager.close()
        self._remove_run_dir()

    def kill(self) -> None:
        """End the workers at once, when the interpreter exits and the loop runs no threads any more."""
        if os.getpid() == self._pid:
            self._manager.kill()
            for folder in Path(tempfile.gettempdir()).glob(f"{self._run_dir.name}-*.tmp"):  # of workers
                shutil.rmtree(folder, ignore_errors=True)
            self._remove_run_dir()

    def _remove_run_dir(self) -> None:
        shutil.rmtree(self._run_dir, ignore_errors=True)
        self._lock.close()


def _resolve(answer: "Future[InferResponse]", outcome: InferResponse | Exception) -> None:
    with suppress(InvalidStateError, CancelledError):  # it was cancelled at this moment
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)


async def _refuse_control(request: ControlRequest[Any]) -> Any:
    raise Unsupported("a model that a program has loaded has no gateway to control")
