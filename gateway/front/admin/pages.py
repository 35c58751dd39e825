"""Sends the console's files, with the policy that keeps a page from other servers."""

from pathlib import Path, PurePath

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

# Scripts and style sheets come from this server only. Charts and Netron set styles of elements, images are dropped by
# the user.
HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # A browser asks each time whether a file has changed: after an update, old scripts must not meet a new server.
    "cache-control": "no-cache",
}


# The folders are those of Python packages.
_CODE = frozenset({".py", ".pyc"})


class Pages:
    """The files of a folder, but not its Python code."""

    def __init__(self, folder: Path) -> None:
        self._files = StaticFiles(directory=folder)

    async def send(self, name: str, request: Request) -> Response:
        try:
            if PurePath(name).suffix in _CODE:
                raise HTTPException(404)
            response = await self._files.get_response(name, request.scope)
        except HTTPException as error:
            return Response(f"there is no file '{name}' in the console\n", error.status_code, media_type="text/plain")
        response.headers.update({**HEADERS, "vary": "accept"})
        return response
