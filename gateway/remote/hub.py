"""Repositories of models on Hugging Face, by huggingface-hub, with the token in HF_TOKEN or of `hf auth login`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.contents.errors import StoreError
from gateway.remote.location import Location
from gateway.remote.store import RemoteObject

EXTRA = "pip install 'modelport[hf]'"
_TIMEOUT_S = 30.0
_CHUNK = 4 << 20


class HubStore:
    """A `Store` of one revision: what a branch names is looked up at each listing, and read until the next one."""

    def __init__(self, location: Location) -> None:
        try:
            import huggingface_hub
            from huggingface_hub.utils import disable_progress_bars
        except ImportError:
            raise StoreError(f"hf:// needs the package huggingface-hub: {EXTRA}") from None
        disable_progress_bars()  # they would be in the log
        self._location, self._hub = location, huggingface_hub
        self._commit = ""
        self._folder = location.path

    def objects(self, prefix: str = "") -> list[RemoteObject]:
        location, api = self._location, self._hub.HfApi()
        try:
            info = api.model_info(location.host, revision=location.revision or None, timeout=_TIMEOUT_S)
            self._commit = info.sha or ""
            entries = list(api.list_repo_tree(location.host, recursive=True, revision=self._commit))
        except Exception as error:
            raise StoreError(f"{location} cannot be listed: {_reason(error)}") from None
        files = {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}
        folder = "/".join(filter(None, (location.path, prefix)))
        if location.path in files and not prefix:
            self._folder, _, name = location.path.rpartition("/")
            return [_object(name, files[location.path])]
        self._folder = location.path
        start, cut = folder + "/" if folder else "", len(location.path) + 1 if location.path else 0
        return sorted(_object(path[cut:], entry) for path, entry in files.items() if path.startswith(start))

    def read(self, item: RemoteObject, scratch: Path) -> Iterator[bytes]:
        path = "/".join(filter(None, (self._folder, item.name)))
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                file = self._hub.hf_hub_download(
                    self._location.host, path, revision=self._commit, local_dir=folder, etag_timeout=_TIMEOUT_S
                )
            except Exception as error:
                raise StoreError(f"'{item.name}' cannot be read: {_reason(error)}") from None
            with Path(file).open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk


def _object(name: str, entry: Any) -> RemoteObject:
    return RemoteObject(name, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)


_REASONS = {
    "GatedRepoError": "the repository asks for an agreement; accept it, and set HF_TOKEN",
    "RepositoryNotFoundError": "there is no such repository, or HF_TOKEN may not read it",
    "RevisionNotFoundError": "there is no such revision",
    "RemoteEntryNotFoundError": "there is no such file",
    "EntryNotFoundError": "there is no such file",
    "ConnectError": "the connection failed",
    "ConnectTimeout": "the connection failed",
    "ReadTimeout": "no bytes arrived in time",
    "LocalEntryNotFoundError": "the connection failed",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
}


def _reason(error: Exception) -> str:
    """Return why a request failed, without the text of the error, which contains URLs with signatures."""
    name = type(error).__name__
    if name in _REASONS:
        return _REASONS[name]
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"the server answered {status}" if status else f"an unexpected {name}"
