from asyncio import BufferedProtocol

from gateway.engine.engine import FrontEngine
from gateway.front.base.limits import Limits
from gateway.front.http.connection import HttpConnection
from gateway.front.http.shared_state import SharedState
from gateway.front.http.states import Receiving

class FastPath:
    keep_alive: bool

    def __init__(self, engine: FrontEngine, limits: Limits, shared: SharedState, at_boundary: Receiving) -> None: ...
    def receiver(self, connection: HttpConnection, buffer: memoryview) -> BufferedProtocol: ...
