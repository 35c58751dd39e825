"""How long a start takes, until an ONNX model has answered its first request, and how long --help takes.

    python -m benchmarks.start [--short]

The runtime's environment is built, files are in the page cache, and all cores may be used. A client sends requests from
the moment the address is known, 5 ms after each failure; the time is measured from the start of the process to the
first 200. Each round also measures a handwritten FastAPI server with the model in the same process, and an interpreter
that does nothing.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import psutil

from benchmarks import models
from benchmarks.report import median_and_spread, ratio, table
from benchmarks.servers import ROOT, cpu_seconds

MODELPORT = str(Path(sys.executable).with_name("modelport"))
BODY = json.dumps({"inputs": [[0.5] * 16]})
_ASK_AGAIN_S = 0.005
_MAX_S = 600.0  # the environment may have to be built in the first round, which does not count
# Stage → the line of the gateway's log that marks it.
STAGES = {
    "address known": r"REST on http://127\.0\.0\.1:(\d+)",
    "front serves": r"front\.\d+: serving",
    "model READY": r"tiny version 1 is READY",
}


@dataclass
class Start:
    """The times of one start, in seconds since the start of the process."""

    stages: dict[str, float] = field(default_factory=dict)
    answered: float = 0.0
    cpu: float = 0.0  # CPU time of all processes until then
    stopped: float = 0.0  # from SIGTERM to the end of the process


class Follower:
    """Reads a server's output, and notes when each of `stages` appears. `port` is the group in the first pattern."""

    def __init__(self, process: "subprocess.Popen[str]", stages: dict[str, str], began: float) -> None:
        self.seen: dict[str, float] = {}
        self.port = 0
        self._process, self._stages, self._began = process, stages, began
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            now = time.perf_counter() - self._began
            for name, pattern in self._stages.items():
                if name not in self.seen and (found := re.search(pattern, line)):
                    self.port = self.port or int(found[1])
                    self.seen[name] = now

    def join(self) -> None:
        self._thread.join(60)


def start(command: Sequence[str], path: str, stages: dict[str, str]) -> Start:
    """Start a server, wait for its first answer, and stop it. Raises RuntimeError if no answer arrives."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=_environment()
    )
    follower, seen = Follower(process, stages, began), Start()
    try:
        while not follower.port:
            if process.poll() is not None:
                raise RuntimeError(f"it ended with code {process.returncode}: {' '.join(command)}")
            time.sleep(_ASK_AGAIN_S)
        while not _answers(follower.port, path):
            if process.poll() is not None or time.perf_counter() - began > _MAX_S:
                raise RuntimeError("no answer arrived")
            time.sleep(_ASK_AGAIN_S)
        seen.answered = time.perf_counter() - began
        root = psutil.Process(process.pid)
        seen.cpu = sum(cpu_seconds(each.pid) for each in (root, *root.children(recursive=True)))
        ends = time.perf_counter()
        process.terminate()
        process.wait(60)
        seen.stopped = time.perf_counter() - ends
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        follower.join()
    seen.stages = follower.seen
    return seen


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, BODY, {"content-type": "application/json"})
        reply = connection.getresponse()
        reply.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    if reply.status not in (200, 503):
        raise RuntimeError(f"the first answer was {reply.status}")
    return reply.status == 200


def run(*command: str) -> float:
    """Return the seconds until the command has ended."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60, env=_environment())
    return time.perf_counter() - began


def _environment() -> dict[str, str]:
    """Return an environment in which bytecode is cached, as usual: otherwise every start compiles everything."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="5 rounds instead of 15")
    rounds = 5 if parser.parse_args().short else 15
    ours: list[Start] = []
    by_hand: list[Start] = []
    commands: dict[str, list[float]] = {"--help": [], "serve --help": [], "an empty interpreter": []}
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder, "tiny", "1", "model.onnx")
        models.tiny_mlp(artifact)
        serve = [MODELPORT, "serve", folder]
        for flag in ("--http", "--grpc", "--metrics"):
            serve += [flag, "127.0.0.1:0"]
        hand = [sys.executable, "-m", "benchmarks.references.fastapi_json", str(artifact)]
        for number in range(rounds + 1):
            counts = number > 0  # the first round builds what is missing, and fills the page cache
            pair = start(serve, "/predict/tiny", STAGES), start(hand, "/predict", {"port": r"^port (\d+)"})
            taken = run(MODELPORT, "--help"), run(MODELPORT, "serve", "--help"), run(sys.executable, "-c", "pass")
            if counts:
                ours.append(pair[0])
                by_hand.append(pair[1])
                for times, seconds in zip(commands.values(), taken, strict=True):
                    times.append(seconds)
    print(f"milliseconds; medians of {rounds} rounds\n")
    print(table(["", "ms", "relative to FastAPI", "target"], rows(ours, by_hand, commands)))


def rows(ours: list[Start], by_hand: list[Start], commands: dict[str, list[float]]) -> list[list[str]]:
    answered, hand = [each.answered for each in ours], [each.answered for each in by_hand]
    made = [[f"modelport serve: {name}", _ms([each.stages[name] for each in ours]), "", ""] for name in STAGES]
    made.append(
        ["modelport serve: first answer", _ms(answered), ratio(answered, hand), "≤ 1500" + _verdict(answered, 1.5)]
    )
    cpu, hand_cpu = [each.cpu for each in ours], [each.cpu for each in by_hand]
    made.append(["modelport serve: CPU time until then", _ms(cpu), ratio(cpu, hand_cpu), ""])
    made.append(["modelport serve: SIGTERM to exit", _ms([each.stopped for each in ours]), "", ""])
    made.append(["handwritten FastAPI: first answer", _ms(hand), "", ""])
    for name, times in commands.items():
        target = "≤ 200" + _verdict(times, 0.2) if name == "--help" else ""
        made.append([name if name.startswith("an ") else f"modelport {name}", _ms(times), "", target])
    return made


def _ms(seconds: Sequence[float]) -> str:
    return median_and_spread([each * 1e3 for each in seconds], 0)


def _verdict(seconds: Sequence[float], most: float) -> str:
    return ": met" if statistics.median(seconds) <= most else ": missed"


if __name__ == "__main__":
    main()
