"""grpcio's server, which also serves reflection. Only this module imports grpcio, which takes 16 MiB."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2  # noqa: F401 - reflection describes health by it
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.domain.request_record import CANCELLED, CURRENT, Observer, RequestRecord
from gateway.errors import ModelportError, NotFound
from gateway.front.base.access import Access, Check, check_of
from gateway.front.base.affinity import CALL_METADATA
from gateway.front.base.client_errors import to_client_error
from gateway.front.base.grpc_code import Code
from gateway.front.base.grpc_method import Method, ServerStreamMethod, Service, StreamMethod, parse
from gateway.front.base.records import grpc_record
from gateway.front.base.request_ids import CURRENT_ID, HEADER, metadata_id
from gateway.front.grpc.errors import Status, to_status
from gateway.front.grpc.port import GuardedPort
from gateway.process.tls import UNREADABLE, ServerTls, readable_names

# By default, grpc cancels some calls at random, without a message, when 1000 of them wait for Python. This limit is out
# of reach, so the admission limit decides instead, with RESOURCE_EXHAUSTED and a message.
_MAX_PENDING = 1 << 20
_PENDING_OPTIONS = [
    ("grpc.server.max_pending_requests", _MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
]

# Client certificates whose names are remembered. Each takes a few kilobytes.
_MAX_CERTIFICATES = 256
# How often the server is asked whether it still accepts connections. A longer time leaves clients without a server for
# that long; a shorter one costs more connections.
_PROBE_S = 1.0

_REFLECTION = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"

# What the library itself says of a method that does not exist.
_UNKNOWN = "Method not found!"

# grpcio has no type annotations.
_Context: TypeAlias = Any


class GrpcioServer:
    """A server with one port."""

    def __init__(
        self,
        services: Sequence[Service],
        options: Sequence[tuple[str, Any]],
        access: Access | None,
        tls: ServerTls | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Must be called inside the running event loop. Without `tls`, connections are not encrypted."""
        self._server, self._tls = grpcio_server(services, options, access, observer=observer), tls

    def add_port(self, address: str) -> int:
        """Bind the address, and return its port. Raises RuntimeError."""
        port: int
        if self._tls is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, _credentials(self._tls))
        self._address = address.rpartition(":")[0].strip("[]"), port
        return port

    async def start(self) -> None:
        await self._server.start()

    def go_away(self) -> None:
        """Do nothing: the library does this in `stop` only, which rejects calls that arrive nevertheless."""

    async def stop(self, grace: float | None) -> None:
        """Reject new calls, and wait up to `grace` seconds until running ones are answered."""
        await self._server.stop(grace)

    async def wait_unreachable(self) -> None:
        """Wait until clients can no longer connect, although the server was not stopped.

        grpc.aio's server stops for good if its own loop fails on a request. It tells nobody, so this asks.
        """
        while True:
            await asyncio.sleep(_PROBE_S)
            try:
                _, writer = await asyncio.open_connection(*self._address)
            except ConnectionRefusedError:
                return
            except OSError:
                continue  # such as too many open files
            writer.transport.abort()


def _credentials(tls: ServerTls) -> Any:
    """Return credentials by which each connection uses the newest certificate."""

    def newest() -> Any:
        pem = tls.pem
        client_ca = None if pem.client_ca is None else pem.client_ca.encode()
        return grpc.ssl_server_certificate_configuration([(pem.key.encode(), pem.cert.encode())], client_ca)

    return grpc.dynamic_ssl_server_credentials(newest(), newest, tls.pem.client_ca is not None)


def _certificate_names(context: Mapping[str, Sequence[bytes]]) -> Sequence[str]:
    """Return the names in the client's certificate, as gateway/process/tls.py does, from what grpc knows of the peer.

    It says which alternative names there are, but not of which kind, so the certificate is read.
    """
    pem = context.get("x509_pem_cert", ())
    return _names_in(pem[0]) if pem else ()


@lru_cache(_MAX_CERTIFICATES)
def _names_in(pem: bytes) -> Sequence[str]:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [f"CN:{attribute.value}" for attribute in common if isinstance(attribute.value, str)]
        with suppress(x509.ExtensionNotFound):
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names += [f"URI:{name}" for name in found.get_values_for_type(x509.UniformResourceIdentifier)]
            names += [f"DNS:{name}" for name in found.get_values_for_type(x509.DNSName)]
            names += [f"email:{name}" for name in found.get_values_for_type(x509.RFC822Name)]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return (UNREADABLE,)
    return readable_names(names)


def grpcio_server(
    services: Sequence[Service],
    options: Sequence[tuple[str, Any]],
    access: Access | None,
    port: GuardedPort | None = None,
    observer: Observer | None = None,
) -> "grpc.aio.Server":
    """Return a server of these services and of reflection. Must be called inside the running event loop.

    port: what clients connect to, if there is a native server between it and this one
    """
    check = _Checks(access, port, observer)
    server = grpc.aio.server(options=[*_PENDING_OPTIONS, *options])
    for service in services:
        path = f"/{service.name}/"
        handlers = {name: _unary(path + name, method, check) for name, method in service.methods.items()}
        handlers |= {name: _server_stream(path + name, each, check) for name, each in service.server_streams.items()}
        handlers |= {name: _stream(path + name, each, check) for name, each in service.streams.items()}
        server.add_registered_method_handlers(service.name, handlers)
    if observer is not None:
        server.add_generic_rpc_handlers((_Unknown(check),))
    reflected = Reflection((*[service.name for service in services], reflection.SERVICE_NAME), check)
    handler = grpc.stream_stream_rpc_method_handler(
        reflected.ServerReflectionInfo, None, reflection_pb2.ServerReflectionResponse.SerializeToString
    )
    server.add_registered_method_handlers(reflection.SERVICE_NAME, {"ServerReflectionInfo": handler})
    return server


class _Checks:
    def __init__(self, access: Access | None, port: GuardedPort | None, observer: Observer | None = None) -> None:
        self._access, self._port, self._observer = access, port, observer

    def __call__(self, context: _Context, path: str) -> Check | None:
        if self._access is None:
            return None
        metadata = context.invocation_metadata() or ()
        return check_of(
            self._access, self._peer(context, metadata), metadata, path, self._certificate(context, metadata)
        )

    def _peer(self, context: _Context, metadata: Sequence[Any]) -> str:
        peer: str = context.peer() if self._port is None else self._port.peer(metadata)
        return peer

    def _certificate(self, context: _Context, metadata: Sequence[Any]) -> Sequence[str]:
        if self._port is not None:
            return self._port.certificate(metadata)
        return _certificate_names(context.auth_context())

    def begin(self, context: _Context, path: str, size: int = 0) -> RequestRecord | None:
        """Return the record of a call, which is that of the current task; None if nobody observes it.

        The call is answered with its id.
        """
        metadata = context.invocation_metadata() or ()
        CALL_METADATA.set(metadata)
        record = None
        if self._observer is not None:
            record = grpc_record(self._observer, path, self._peer(context, metadata), metadata, size)
            CURRENT.set(record)
        if request_id := metadata_id(metadata) if record is None else record.request_id:
            CURRENT_ID.set(request_id)
            context.set_trailing_metadata(((HEADER, request_id),))
        return record

    async def accepted(self, messages: AsyncIterator[bytes], refused: list[Status]) -> AsyncIterator[bytes]:
        """Yield the messages until the port has refused one, and note why."""
        async for message in messages:
            try:
                if self._port is not None:
                    self._port.refusals.check(message)
            except ModelportError as error:
                refused.append(to_status(error))
                return
            yield message


async def _abort(context: _Context, status: Status) -> None:
    """End the call.

    grpc keeps the exception that this raises, and so the caller's variables, until the garbage collector runs. So the
    caller must have no message left, and no error, whose traceback has one.
    """
    code, details, trailing_metadata = status
    metadata = (*trailing_metadata, *(context.trailing_metadata() or ()))
    await context.abort(grpc.StatusCode[code.name], details, metadata)


def _failed(error: Exception, record: RequestRecord | None) -> Status:
    """Return the status of a call with this error, and end its record."""
    error = to_client_error(error)
    status = to_status(error)
    if record is not None:
        record.end(status.code, error.kind)
    return status


def _cancelled(record: RequestRecord | None) -> None:
    if record is not None:
        record.end(Code.CANCELLED, CANCELLED)


def _unary(path: str, method: Method, check: _Checks) -> Any:
    """Return grpc's handler. It has no deserializer: for invalid protobuf, grpc would answer INTERNAL."""

    async def call(raw: bytes, context: _Context) -> bytes:
        record = check.begin(context, path, len(raw))
        try:
            answer = await method(raw, context.time_remaining(), check(context, path))
            if record is not None:
                record.end(Code.OK, bytes_out=len(answer))
            return answer
        except asyncio.CancelledError:
            _cancelled(record)
            raise
        except Exception as error:
            status = _failed(error, record)
        del raw
        await _abort(context, status)
        raise AssertionError("abort does not return")

    call.__name__ = path
    return grpc.unary_unary_rpc_method_handler(call)


def _server_stream(path: str, stream: ServerStreamMethod, check: _Checks) -> Any:
    """Return grpc's handler."""

    async def call(raw: bytes, context: _Context) -> AsyncIterator[bytes]:
        record = check.begin(context, path, len(raw))
        size = 0
        try:
            async with aclosing(stream(raw, check(context, path))) as answers:
                async for answer in answers:
                    size += len(answer)
                    yield answer
            if record is not None:
                record.end(Code.OK, bytes_out=size)
            return
        except asyncio.CancelledError:
            _cancelled(record)
            raise
        except Exception as error:
            status = _failed(error, record)
        del raw
        await _abort(context, status)

    return grpc.unary_stream_rpc_method_handler(call)


def _stream(path: str, stream: StreamMethod, check: _Checks) -> Any:
    """Return grpc's handler."""

    async def call(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        refused: list[Status] = []
        check.begin(context, path)  # each message has a record of its own, made from this one
        messages = check.accepted(requests, refused)
        async with aclosing(stream(messages, context.time_remaining, check(context, path))) as answers:
            async for answer in answers:
                yield answer
        for status in refused:
            await _abort(context, status)

    return grpc.stream_stream_rpc_method_handler(call)


class _Unknown(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Records calls of methods that do not exist, which the library rejects without a handler."""

    def __init__(self, check: _Checks) -> None:
        self._check = check

    def service(self, details: Any) -> Any:
        async def call(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
            record = self._check.begin(context, details.method)
            assert record is not None
            record.end(Code.UNIMPLEMENTED, NotFound.kind)
            await _abort(context, Status(Code.UNIMPLEMENTED, _UNKNOWN, []))
            yield b""

        return grpc.stream_stream_rpc_method_handler(call)


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """The library's reflection service with an access check, for messages that are not parsed yet."""

    def __init__(self, services: Iterable[str], check: _Checks) -> None:
        super().__init__(services)
        self._check = check

    async def ServerReflectionInfo(self, requests: Any, context: _Context) -> AsyncIterator[Any]:
        refused: list[Status] = []
        record = self._check.begin(context, _REFLECTION)
        try:
            check = self._check(context, _REFLECTION)
            if check is not None:
                check("read", "")
            messages = _parsed(self._check.accepted(requests, refused), check)
            async for answer in super().ServerReflectionInfo(messages, context):
                yield answer
        except asyncio.CancelledError:
            _cancelled(record)
            raise
        except ModelportError as error:
            refused.append(_failed(error, record))
        if record is not None and not refused:
            record.end(Code.OK)
        for status in refused:
            await _abort(context, status)


async def _parsed(requests: AsyncIterator[bytes], check: Check | None) -> AsyncIterator[Any]:
    """Parse the messages, which the library does without telling the client what is wrong. Raises ModelportError."""
    async for raw in requests:
        if check is not None:
            check("read", "")  # the credentials may have been withdrawn
        yield parse(reflection_pb2.ServerReflectionRequest, raw)
