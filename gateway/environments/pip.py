"""Turns pip's output into progress for people, and into one sentence if it fails."""

import json
import re
import signal
from collections import deque

from packaging.utils import canonicalize_name

_KEPT_LINES = 15
_COLLECTING = re.compile(r"Collecting ([\w.-]+)")
_DOWNLOADING = re.compile(r"\s*Downloading (\S+) \(([\d.]+) ?(\w+)\)")
_CACHED = re.compile(r"\s*Using cached (\S+)")
_SOURCE = re.compile(r"\s*Building wheels? for (?!collected)([\w.-]+)")
_INSTALLING = re.compile(r"Installing collected packages: (.*)")
_NOT_FOUND = re.compile(r"ERROR: Could not find a version that satisfies the requirement (.+?) \(from versions: (.*)\)")
_RETRYING = re.compile(r"WARNING: Retrying .* after connection broken by ['\"]?(.*)")
_UNTRUSTED = re.compile(r"\s*Could not fetch URL .* ssl certificate", re.IGNORECASE)
_MISMATCHES = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"
_MISMATCH = re.compile(r"\s+([\w.-]+==[\w.+!]+) from .*:$")
_FILE = re.compile(r"(?:file://)?(?<![\w:/.])/(?:[^\s/'\":]+/)+")


class Output:
    """The output of one run of pip. `lines` are the last ones that are not warnings."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._errors: list[str] = []
        self._not_found: tuple[str, str] | None = None
        self._broken_connection = ""
        self._mismatches: list[str] | None = None

    def feed(self, line: str) -> str:
        """Read a line. Return progress for people, or "" for most lines."""
        if retry := _RETRYING.match(line):
            self._broken_connection = _cause(retry[1])
        elif _UNTRUSTED.match(line):
            self._broken_connection = "its certificate is not trusted"
        if line.startswith(("WARNING:", "DEPRECATION:")):
            return ""
        self.lines.append(line)
        if line.startswith(_MISMATCHES):
            self._mismatches = []
        elif self._mismatches is not None and (match := _MISMATCH.match(line)):
            self._mismatches.append(match[1])
        if missing := _NOT_FOUND.match(line):
            self._not_found = (missing[1], missing[2])
        elif line.startswith("ERROR:") and not line.startswith("ERROR: Ignored the following"):
            self._errors.append(line.removeprefix("ERROR:").strip())
        return _progress(line)

    def failure(self, returncode: int, python: str) -> str:
        """Return why pip failed, as one sentence without paths. python: the minor version that it ran on."""
        if returncode < 0:
            name = signal.Signals(-returncode).name
            return f"pip was killed by {name}, probably because memory ran out: free some and try again"
        if any("No space left on device" in line for line in self.lines):
            return "the disk became full while pip installed: free some, or set MODELPORT_HOME and TMPDIR elsewhere"
        if self._mismatches is not None:
            names = " and ".join(self._mismatches) or "a package"
            return (
                f"the file that pip received for {names} does not match the hash in the lock: it may have been "
                "tampered with, so check the package index that pip is configured for"
            )
        if self._not_found:
            requirement, versions = self._not_found
            if versions == "none" and self._broken_connection:
                return (
                    f"pip could not reach its package index for {requirement} ({self._broken_connection}): "
                    "check the network and 'pip config list'"
                )
            known = f"the newest versions in its index are {', '.join(versions.split(', ')[-3:])}"
            if versions == "none":
                known = "its index has no version for this Python and platform"
            return f"pip could not find {requirement} for Python {python}: {known}"
        last = self._errors or list(self.lines)[-1:] or ["it printed nothing"]
        return f"pip failed: {_FILE.sub('', last[0]).rstrip('.')}"


def reported_hashes(report: str) -> dict[str, str]:
    """Return normalized name of a distribution → SHA-256 of its file, from the text that pip install --report wrote."""
    hashes = {}
    for each in json.loads(report)["install"]:
        archive = each["download_info"].get("archive_info", {})
        if digest := archive.get("hashes", {}).get("sha256"):
            hashes[str(canonicalize_name(each["metadata"]["name"]))] = digest
    return hashes


def _progress(line: str) -> str:
    if match := _COLLECTING.match(line):
        return f"looking for {match[1]}"
    if match := _DOWNLOADING.match(line):
        return "" if _is_metadata(match[1]) else f"downloading {_project(match[1])} ({match[2]} {match[3]})"
    if match := _CACHED.match(line):
        return "" if _is_metadata(match[1]) else f"using {_project(match[1])} from pip's cache"
    if match := _SOURCE.match(line):
        return f"building {match[1]} from its source"
    if match := _INSTALLING.match(line):
        count = len(match[1].split(", "))
        return f"installing {count} package{'s' if count > 1 else ''}"
    return ""


def _is_metadata(url: str) -> bool:
    return url.endswith(".metadata")


def _project(url: str) -> str:
    return url.rsplit("/", 1)[-1].split("-")[0].replace("_", "-")


def _cause(text: str) -> str:
    """Return the innermost cause from the text of urllib3's nested exceptions."""
    if match := re.search(r"\[Errno -?\d+\] ([^'\")]+)", text):
        return match[1].strip().lower()
    return text.split("(")[0].strip() or "no connection"
