"""S3, Google Cloud Storage, Azure Blob Storage and web servers, by obstore."""

import configparser
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.contents.errors import StoreError
from gateway.remote.location import Location
from gateway.remote.store import RemoteObject

if TYPE_CHECKING:
    import obstore
    from obstore.store import ObjectStore as Bucket

EXTRA = "pip install 'modelport[remote]'"

# A store that sends nothing for this long has stalled. Shorter timeouts fail on a busy store.
_STALL = "30s"
# A part of an object is one request. With the timeout below, it fails under 110 kB/s, however steadily bytes arrive.
_PART = 64 << 20
_PART_TIMEOUT = "10m"
# A file of a web server is one request, because not every web server can send parts.
_FILE_TIMEOUT = "12h"
_RETRIES, _RETRY_S = 4, 60
_CHUNK = 4 << 20
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("STORAGE_EMULATOR_HOST",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


class Opened(NamedTuple):
    """A bucket of obstore, and the module itself."""

    bucket: "Bucket"
    obs: Any


def open_bucket(location: Location) -> Opened:
    """Return obstore's store for a location, with credentials by its usual chain. Raises StoreError."""
    try:
        import obstore
        from obstore import store
    except ImportError:
        raise StoreError(f"{location.scheme}:// needs the package obstore: {EXTRA}") from None
    endpoint = next((os.environ[name] for name in _ENDPOINTS.get(location.scheme, ()) if os.environ.get(name)), "")
    is_web = location.scheme in ("http", "https")
    plain = location.scheme == "http" or endpoint.startswith("http://")
    options: Any = {
        "connect_timeout": "5s",
        "read_timeout": _STALL,
        "timeout": _FILE_TIMEOUT if is_web else _PART_TIMEOUT,
        "allow_http": plain,
        "user_agent": "modelport",
    }
    retries: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_S)}
    try:
        bucket: Bucket
        if is_web:
            bucket = store.HTTPStore(location.url, client_options=options, retry_config=retries)
        elif location.scheme == "s3":
            keys: Any = {**_profile_keys(), **({"endpoint": endpoint} if endpoint else {})}
            bucket = store.S3Store(location.host, client_options=options, retry_config=retries, **keys)
        elif location.scheme == "gs":
            bucket = _google(store, location, endpoint, options, retries)
        else:
            azure: Any = {"endpoint": endpoint} if endpoint else {}
            bucket = store.AzureStore(location.host, client_options=options, retry_config=retries, **azure)
    except Exception as error:
        raise StoreError(f"{location} cannot be opened: {_reason(error)}") from None
    return Opened(bucket, obstore)


def _google(store: Any, location: Location, endpoint: str, options: Any, retries: Any) -> Any:
    if not endpoint:
        return store.GCSStore(location.host, client_options=options, retry_config=retries)
    # An emulator, which has no credentials.
    return store.GCSStore(
        location.host, client_options=options, retry_config=retries, base_url=endpoint.rstrip("/"), skip_signature=True
    )


def _profile_keys() -> dict[str, str]:
    """Return the keys of a profile in ~/.aws, which obstore does not read, unless the environment has keys."""
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return {}
    profile = os.environ.get("AWS_PROFILE", "default")
    files = configparser.ConfigParser(interpolation=None)
    try:
        files.read(Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser())
    except (configparser.Error, OSError, RuntimeError, UnicodeDecodeError):
        return {}
    if not files.has_section(profile):
        return {}
    names = {"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}
    return {key.removeprefix("aws_"): value for key, value in files.items(profile) if key in names}


class ObjectStore:
    """A `Store` of obstore. Parts of large objects are read one after another, each only if the etag is the same."""

    def __init__(self, location: Location, opened: Opened) -> None:
        self._location = location
        self._bucket, self._obs = opened
        self._is_web = location.scheme in ("http", "https")
        self._folder = location.path  # in which the objects are that were listed
        self._known: RemoteObject | None = None  # of a web server

    def objects(self, prefix: str = "") -> list[RemoteObject]:
        if self._is_web:
            return [self._listed_file()]
        path = "/".join(filter(None, (self._location.path, prefix)))
        found = self._below(path)
        if found or prefix or not path:
            self._folder = self._location.path
            return found
        return self._one(path)

    def _below(self, path: str) -> list[RemoteObject]:
        cut = len(self._location.path) + 1 if self._location.path else 0
        try:
            metas = self._walk(path)
        except Exception as error:
            raise StoreError(f"{self._location} cannot be listed: {_reason(error)}") from None
        return sorted(RemoteObject(meta["path"][cut:], meta["size"], _etag(meta)) for meta in metas)

    def _walk(self, path: str) -> list[Any]:
        """Return what obstore lists below a folder; for names that it cannot parse, one that `check_name` refuses.

        obstore fails for a whole listing if one name in it has an empty part or '..'. Whoever may write one object must
        not stop updates of all models, so such a listing is repeated folder by folder.
        """
        try:
            return self._obs.list(self._bucket, path + "/" if path else None).collect()  # type: ignore[no-any-return]
        except self._obs.exceptions.InvalidPathError:
            pass
        try:
            folder = self._obs.list_with_delimiter(self._bucket, path or None)
        except self._obs.exceptions.InvalidPathError as error:
            return [{"path": _odd_name(error, path), "size": 0, "e_tag": "invalid"}, *self._behind(path)]
        return [*folder["objects"], *(meta for each in folder["common_prefixes"] for meta in self._walk(each))]

    def _behind(self, path: str) -> list[Any]:
        """Return what is behind names such as path//x, the most usual odd ones; nothing if there are others as well.

        Such names are before all that begin with a letter or a digit.
        """
        start = path + "/" if path else ""
        try:
            return self._obs.list(self._bucket, start or None, offset=f"{start}0").collect()  # type: ignore[no-any-return]
        except self._obs.exceptions.InvalidPathError:
            return []

    def _one(self, path: str) -> list[RemoteObject]:
        """Return the object at this path, and those beside it that share its stem, as parts of an artifact do."""
        folder, _, name = path.rpartition("/")
        stem = re.split(r"[-.]", name)[0]
        try:
            metas = self._obs.list_with_delimiter(self._bucket, folder or None)["objects"]
        except Exception as error:
            raise StoreError(f"{self._location} cannot be listed: {_reason(error)}") from None
        named = [RemoteObject(meta["path"].rpartition("/")[2], meta["size"], _etag(meta)) for meta in metas]
        if not any(each.name == name for each in named):
            return []
        self._folder = folder
        return sorted(each for each in named if each.name == name or re.match(re.escape(stem) + "[-.]", each.name))

    def _listed_file(self) -> RemoteObject:
        """Ask for the file, unless it is the known one, and let the body go: some signed URLs do not allow HEAD."""
        known = self._known
        options = {"if_none_match": _header(known.etag)} if known and not known.etag.startswith("time ") else {}
        try:
            meta = self._obs.get(self._bucket, "", options=options).meta
        except self._obs.exceptions.NotModifiedError:
            assert known is not None
            return known
        except Exception as error:
            raise StoreError(f"{self._location} cannot be read: {_reason(error)}") from None
        self._known = RemoteObject(self._location.name, meta["size"], _etag(meta))
        return self._known

    def read(self, item: RemoteObject, scratch: Path) -> Iterator[bytes]:
        path = "" if self._is_web else self._path(item)
        position = 0
        # Nothing is read of an empty object: it may be the marker of a folder, which cannot be read.
        while position < item.size:
            end = item.size if self._is_web else min(item.size, position + _PART)
            for chunk in self._part(path, item, position, end):
                position += len(chunk)
                if position > end:
                    raise StoreError(f"'{item.name}' is longer than the {item.size} bytes that the store announced")
                yield chunk
            if position < end:
                raise StoreError(f"'{item.name}' ended after {position} of {item.size} bytes")

    def _path(self, item: RemoteObject) -> str:
        return "/".join(filter(None, (self._folder, item.name)))

    def _part(self, path: str, item: RemoteObject, position: int, end: int) -> Iterator[bytes]:
        options: dict[str, Any] = {} if self._is_web else {"range": (position, end)}
        if not item.etag.startswith(_NO_ETAG):
            options["if_match"] = f'"{item.etag}"'
        try:
            result = self._obs.get(self._bucket, path, options=options)
            meta = result.meta
            if (meta["size"], _etag(meta)) != (item.size, item.etag):
                raise StoreError(f"'{item.name}' changed while it was being downloaded")
            yield from map(bytes, result.stream(min_chunk_size=_CHUNK))
        except self._obs.exceptions.PreconditionError:
            raise StoreError(f"'{item.name}' changed while it was being downloaded") from None
        except self._obs.exceptions.BaseError as error:
            raise StoreError(f"'{item.name}' cannot be read: {_reason(error)}") from None
        except (OSError, ValueError) as error:  # obstore's for objects that are not there
            raise StoreError(f"'{item.name}' cannot be read: {_reason(error)}") from None


def _odd_name(error: Exception, folder: str) -> str:
    """Return the name that obstore could not parse, which is in a folder."""
    start = folder + "/" if folder else ""
    found = re.search(r'Path "(.*?)"', str(error), re.DOTALL)
    return found[1] if found and found[1].startswith(start) and found[1] != start else f"{start}/.."


# A weak etag never matches, and a time is no etag.
_NO_ETAG = ("W/", "time ")


def _etag(meta: "obstore.ObjectMeta") -> str:
    """Return the etag without quotes, which Azure's listings leave out."""
    etag = meta["e_tag"]
    if etag:
        return etag if etag.startswith("W/") else etag.strip('"')
    return f"time {meta['last_modified'].isoformat()}"


def _header(etag: str) -> str:
    return etag if etag.startswith("W/") else f'"{etag}"'


_REASONS = (
    ("InvalidPathError", "names in it have empty parts or '..'"),
    ("NotFound", "it does not exist"),
    ("status code: 403", "access is denied (403); check the credentials"),
    ("PermissionDenied", "access is denied; check the credentials"),
    ("status code: 401", "the store does not accept the credentials (401)"),
    ("Unauthenticated", "the store does not accept the credentials"),
    ("credential", "no credentials were found, or they cannot be renewed"),
    ("Metadata", "no credentials were found, or they cannot be renewed"),
    ("ConnectionRefused", "the connection is refused"),
    ("dns error", "the host's name cannot be resolved"),
    ("InvalidCertificate", "the server's certificate is not trusted; SSL_CERT_FILE can name its authority"),
    ("certificate", "the server's certificate is not trusted"),
    ("TimedOut", f"no bytes arrived for {_STALL}"),
    ("timed out", f"no bytes arrived for {_STALL}"),
    ("RangeNotSupported", "the connection ended early, and the server cannot resume"),
    ("MissingContentLength", "the server does not announce the file's size (Content-Length)"),
    ("IncompleteMessage", "the connection ended early"),
    ("connection closed", "the connection ended early"),
    ("connect", "the connection failed"),
)


def _reason(error: Exception) -> str:
    """Return why a request failed, without the text of the error: it contains URLs, with their signatures."""
    text = f"{type(error).__name__} {error}"
    for word, reason in _REASONS:
        if word in text:
            return reason
    if status := re.search(r"status code: (\d{3})", text):
        return f"the store answered {status[1]}"
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    return f"an unexpected {type(error).__name__}"
