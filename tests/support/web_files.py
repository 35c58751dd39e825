"""A web server with files in memory, which can also answer like Hugging Face's."""

import hashlib
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self


class WebFiles:
    """files: path → content. status: what is answered instead of files, if it is not 200.

    sent    the paths of the bodies that were sent
    faults  path → "truncated", "stalls", "no length" or "drips"
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.documents: dict[str, Any] = {}
        self.status = 200
        self.sent: list[str] = []
        self.faults: dict[str, str] = {}
        self.headers: list[Mapping[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self, with_body=True)

            def do_HEAD(self) -> None:
                outer._answer(self, with_body=False)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def add_hub(self, repository: str, files: Mapping[str, bytes]) -> None:
        """Answer like Hugging Face for a repository, whose only revision has these files."""
        commit = hashlib.sha1(json.dumps({name: content.hex() for name, content in files.items()}).encode()).hexdigest()
        info = {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()
        ]
        self.documents[f"/api/models/{repository}"] = info
        self.documents[f"/api/models/{repository}/tree/{commit}"] = entries
        for name, content in files.items():
            self.files[f"/{repository}/resolve/{commit}/{name}"] = content

    def _answer(self, request: BaseHTTPRequestHandler, with_body: bool) -> None:
        self.headers.append(dict(request.headers))
        path = request.path.partition("?")[0]
        if path in self.documents:
            content, etag = json.dumps(self.documents[path]).encode(), ""
        else:
            content = self.files.get(path, b"")
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
        status = self.status
        if path not in self.files and path not in self.documents:
            status = 404
        if status == 200 and etag and request.headers.get("If-None-Match") == etag:
            status = 304
        fault = self.faults.get(path, "")
        request.send_response(status)
        if "/resolve/" in path:
            request.send_header("X-Repo-Commit", path.split("/resolve/")[1].split("/")[0])
        if etag:
            request.send_header("ETag", etag)
        request.send_header("Content-Type", "application/json" if not etag else "application/octet-stream")
        if fault != "no length":
            request.send_header("Content-Length", str(len(content) if status == 200 else 0))
        request.end_headers()
        if with_body and status == 200:
            self.sent.append(path)
            request.wfile.write(content[: len(content) // 2] if fault else content)
            if fault == "stalls":
                request.rfile.read(1)  # until the client gives up
        request.close_connection = request.close_connection or bool(fault)
