"""Exports over REST: start one, follow its progress, download the result. Disabled by default."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from gateway.domain.control import CancelExport, GetExport, GetExportArchive, StartExport
from gateway.engine.protocol import Engine
from gateway.errors import InvalidRequest
from gateway.front.base.access import acts
from gateway.front.base.app_routes import AppRoutes
from gateway.front.base.body import ReadObject


def add_exports(app: AppRoutes, engine: Engine, read_object: ReadObject) -> None:
    path = "/v2/models/{model}/export"

    @app.post(path, tags=["export"], status_code=202)
    @app.post("/v2/models/{model}/versions/{version}/export", tags=["export"], status_code=202)
    async def start(model: str, request: Request, version: str = "") -> JSONResponse:
        """Start an export, with {"to": a target, "quantize", "signature", "tolerance"}, and return its id."""
        options = check_options(await read_object(request))
        status = engine.model(model, version)
        started = await engine.control(StartExport(model, status.version, options))
        return JSONResponse(started, 202, {"Location": f"/v2/models/{model}/export/{started['id']}"})

    @app.get(path + "/{export}", tags=["export"])
    async def progress(model: str, export: str) -> dict[str, Any]:
        """The state (RUNNING, DONE, FAILED), the output so far and, if DONE, the report."""
        return await engine.control(GetExport(model, export))

    @app.get(path + "/{export}/result", tags=["export"], response_class=FileResponse)
    @acts("admin")  # it contains the model
    async def result(model: str, export: str) -> FileResponse:
        """The export's folder as a zip archive."""
        archive = await engine.control(GetExportArchive(model, export))
        return FileResponse(archive, media_type="application/zip", filename=f"{model}.zip")

    @app.delete(path + "/{export}", tags=["export"], status_code=200)
    async def cancel(model: str, export: str) -> Response:
        """Stop the export and delete its result."""
        await engine.control(CancelExport(model, export))
        return Response(status_code=200)


def check_options(document: Mapping[str, Any]) -> dict[str, str]:
    """Convert a request's body to the flags of the command. Raises InvalidRequest."""
    from gateway.export.routes import PRECISIONS, TARGETS

    if unknown := sorted(set(document) - {"to", "quantize", "signature", "tolerance"}):
        raise InvalidRequest(f"there is no key '{unknown[0]}'; the keys are to, quantize, signature and tolerance")
    if document.get("to") not in TARGETS:
        raise InvalidRequest(f"'to' must be one of {', '.join(TARGETS)}")
    flags = {"to": str(document["to"])}
    if "quantize" in document:
        if document["quantize"] not in PRECISIONS[1:]:
            raise InvalidRequest(f"'quantize' must be one of {', '.join(PRECISIONS[1:])}")
        if document["quantize"] == "int8":
            raise InvalidRequest("int8 needs calibration data, which only the command modelport export accepts")
        flags["quantize"] = document["quantize"]
    if "signature" in document:
        name = document["signature"]
        if not isinstance(name, str) or name.startswith("-") or "\0" in name:
            raise InvalidRequest("'signature' must be the name of one of the model's signatures")
        flags["signature"] = name
    if "tolerance" in document:
        value = document["tolerance"]
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InvalidRequest("'tolerance' must be a number, a share of an output's largest value, such as 0.001")
        flags["tolerance"] = repr(float(value))
    return flags
