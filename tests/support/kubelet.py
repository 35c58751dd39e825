"""What the kubelet does with the container of a rendered pod, as a process of this machine.

The command, its arguments, variables, ports, probes and hooks are those of the manifest. Only paths of volumes become
those of folders here, and the image's entry point is read from Dockerfile.gpu.
"""

import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any

from gateway.config import home
from tests.support import ROOT

_SIGKILL_S = 60.0


class Pod:
    """The first container of a pod. `ports`: by their names. `log`: what it has written."""

    def __init__(
        self,
        spec: dict[str, Any],
        volumes: Mapping[str, Path],
        folder: Path,
        ports: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """volumes: the folders of the pod's volumes, by their names. ports: those that are others here."""
        self.spec = spec
        self._container = spec["containers"][0]
        self._ports = ports
        mounts = {mount["mountPath"]: str(volumes[mount["name"]]) for mount in self._container["volumeMounts"]}
        self._mounted = re.compile("(" + "|".join(re.escape(path) for path in mounts) + r")(?=/|$)")
        self._mounts = mounts
        self.ports = {port["name"]: port["containerPort"] for port in self._container.get("ports", ())}
        self.log: list[str] = []
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "TMPDIR": self._here("/tmp"),
            "MODELPORT_HOME": str(home()),  # where the image has its environments
            **{each["name"]: self._here(each["value"]) for each in self._container["env"]},
        }
        self._folder = folder
        self._process = subprocess.Popen(
            [*_entry_point(), *map(self._here, self._container["args"])],
            cwd=folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _here(self, text: str) -> str:
        """Replace the path of a mount, if the text begins with one, and an address with a port that is another here."""
        _, _, port = text.rpartition(":")
        if port.isdigit() and int(port) in self._ports:
            return f"127.0.0.1:{self._ports[int(port)]}"
        found = self._mounted.match(text)
        return text if found is None else self._mounts[found[0]] + text[found.end() :]

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            self.log.extend(line.rstrip() for line in stream)

    def passes(self, name: str) -> bool:
        """Run a probe once. As with the kubelet, statuses from 200 to 399 and exit code 0 are good."""
        probe = self._container[name]
        if "exec" in probe:
            return self._run(probe["exec"]["command"], probe["timeoutSeconds"]) == 0
        target = probe["httpGet"]
        address = "127.0.0.1", self.ports.get(target["port"]) or self._ports[target["port"]]
        connection = http.client.HTTPConnection(*address, timeout=probe["timeoutSeconds"])
        if target.get("scheme") == "HTTPS":  # which the kubelet does not verify
            unverified = ssl.create_default_context()
            unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(*address, timeout=probe["timeoutSeconds"], context=unverified)
        with closing(connection):
            try:
                connection.request("GET", target["path"])
                return 200 <= connection.getresponse().status < 400
            except OSError:
                return False

    def _run(self, command: list[str], timeout_s: float) -> int:
        done = subprocess.run(
            list(map(self._here, command)),
            cwd=self._folder,
            env=self._environment,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode

    def wait_until(self, name: str, failures: int | None = None) -> int:
        """Run a probe every period until it passes, and return how often it failed. Fails after too many of these."""
        probe = self._container[name]
        allowed = probe["failureThreshold"] if failures is None else failures
        for number in range(allowed):
            if self.passes(name):
                return number
            try:
                self._process.wait(probe["periodSeconds"])
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"{name} did not pass:\n" + "\n".join(self.log[-20:]))

    def start(self) -> None:
        """Until it is ready: a pod that is not ready is waited for, as by a rollout."""
        self.wait_until("startupProbe")
        self.wait_until("readinessProbe", failures=60)
        assert self.passes("livenessProbe")

    def terminate(self) -> int:
        """Run the preStop hook, send SIGTERM, and return the exit code. Fails if the grace period does not suffice."""
        allowed = float(self.spec.get("terminationGracePeriodSeconds", 30))
        hook = self._container.get("lifecycle", {}).get("preStop")
        if hook is not None:
            assert self._run(hook["exec"]["command"], allowed) == 0
            allowed -= float(hook["exec"]["command"][1])
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(allowed)
        self._reader.join(_SIGKILL_S)
        return code

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(_SIGKILL_S)


def _entry_point() -> list[str]:
    """Return the image's, without tini where the machine has none."""
    found = re.search(r"^ENTRYPOINT (\[.+\])$", (ROOT / "Dockerfile.gpu").read_text(), re.MULTILINE)
    assert found is not None
    command: list[str] = json.loads(found[1])
    return command if shutil.which(command[0]) else command[command.index("--") + 1 :]
