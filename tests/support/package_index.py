"""A package index on loopback (PEP 503), over a folder of wheels."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType


@contextmanager
def package_index(folder: Path, stated: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Yield its URL. It states the present SHA-256 of each file, or the one that `stated` has for the file's name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            *_, kind, name = self.path.rstrip("/").split("/")
            if kind == "simple":
                files = sorted(folder.glob(f"{name.replace('-', '_')}-*"))
                hashes = {file.name: stated.get(file.name) or _sha256(file) for file in files}
                links = [f'<a href="/files/{name}#sha256={digest}">{name}</a>' for name, digest in hashes.items()]
                self._answer("".join(links).encode(), "text/html")
            elif (folder / name).is_file():
                self._answer((folder / name).read_bytes(), "application/octet-stream")
            else:
                self.send_error(404)

        def do_HEAD(self) -> None:
            self.send_error(405)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple"
        finally:
            server.shutdown()
            thread.join()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
