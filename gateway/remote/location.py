"""Where remote models are: URLs, parsed, and printed without their secrets."""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

SCHEMES = ("s3", "gs", "az", "https", "http", "hf")
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")
# What signs a URL of AWS, CloudFront, Google and Azure, and when the signature was made and ends.
_SIGNATURE = re.compile(
    r"(X-Amz-|X-Goog-|(AWSAccessKeyId|GoogleAccessId|Key-Pair-Id|Signature|Expires|Policy|token|"
    r"sig|s[ieprstv]|ses|sip|spr|srt|sdd|skoid|sktid|skt|ske|sks|skv|saoid|suoid|scid)=)",
    re.IGNORECASE,
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class BadLocation(Exception):
    """A URL that cannot be used. The message is one sentence without secrets."""


def is_remote(text: str) -> bool:
    """Return whether the text is a URL rather than a path."""
    return _URL.match(text) is not None


@dataclass(frozen=True)
class Location:
    """A parsed URL. `str` and `repr` leave out user names, passwords and signatures.

    host  the bucket or container; for hf, the repository ORG/NAME; for https, the host and port
    path  the prefix, without slashes at its ends. It is a file's path if `is_file`
    revision  of a repository on Hugging Face
    url   the whole URL of http and https, which may have secrets in it
    """

    scheme: str
    host: str
    path: str
    revision: str = ""
    url: str = field(default="", repr=False, compare=True)

    @property
    def name(self) -> str:
        """The last part of the path, or of the bucket's name: what a model without a name is called."""
        return PurePosixPath(self.path).name or PurePosixPath(self.host).name

    @property
    def identity(self) -> str:
        """Text that is the same for the same content, however it is signed this time. It may be secret: hash it."""
        query = [pair for pair in urlsplit(self.url).query.split("&") if pair and not _SIGNATURE.match(pair)]
        return "?".join([str(self), *(["&".join(query)] if query else [])])

    @property
    def stem(self) -> str:
        """The name without the ending of an archive."""
        ending = next((each for each in _ARCHIVES if self.is_archive and self.name.lower().endswith(each)), "")
        return self.name[: len(self.name) - len(ending)] or self.name

    @property
    def is_archive(self) -> bool:
        return self.scheme in ("http", "https") and self.name.lower().endswith(_ARCHIVES)

    def __str__(self) -> str:
        if self.scheme == "hf":
            revision = f"@{self.revision}" if self.revision else ""
            return f"hf://{self.host}{revision}" + (f"/{self.path}" if self.path else "")
        return f"{self.scheme}://{self.host}" + (f"/{self.path}" if self.path else "")

    def __repr__(self) -> str:
        return f"Location({self})"


def parse(text: str) -> Location:
    """Parse a URL. Raises BadLocation."""
    scheme = text.partition("://")[0].lower()
    if scheme not in SCHEMES:
        # Not the URL itself, which may contain a password.
        raise BadLocation(f"models cannot be read from {scheme}:// URLs; use one of {', '.join(SCHEMES)}")
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise BadLocation(f"a {scheme}:// URL cannot be parsed; check its host and port") from None
    path = unquote(parts.path).strip("/")
    if not path.isprintable():
        raise BadLocation(f"the path of {scheme}://{host} must not contain control characters")
    if any(part in (".", "..") for part in path.split("/")):
        raise BadLocation(f"the path of {scheme}://{host} must not contain '.' or '..'")
    if scheme in ("http", "https"):
        if not host or not path:
            raise BadLocation(f"{scheme}://{host} names no file; use the URL of an archive or of an artifact")
        return Location(scheme, f"[{host}]{port}" if ":" in host else host + port, path, url=text)
    if parts.query or parts.fragment or parts.username or parts.password:
        at_revision = scheme == "hf" and not (parts.query or parts.fragment)
        if not at_revision:
            raise BadLocation(
                f"{scheme}:// URLs have a bucket and a path only; give credentials by the store's usual variables"
            )
    if scheme == "hf":
        return _hugging_face(unquote(text.partition("://")[2]).strip("/"))
    if not parts.netloc:
        raise BadLocation(f"the URL names no bucket; use {scheme}://BUCKET/PREFIX")
    return Location(scheme, parts.netloc, path)


def _hugging_face(text: str) -> Location:
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/(.+))?", text)
    if match is None:
        raise BadLocation("a Hugging Face URL must look like hf://ORG/REPOSITORY, hf://ORG/REPOSITORY@REVISION/PATH")
    return Location("hf", match[1], (match[3] or "").strip("/"), revision=match[2] or "")
