"""Sends the same sequences to modelport and to a real tritonserver, and lists the answers that differ.

    python -m audit.triton_sequences TRITON_PYTHON [--rounds N] [--seed N]

TRITON_PYTHON has nvidia-pytriton (benchmarks/references/triton_repository.py). Both servers have the same folder of
models in the form of Triton's Python backend, with Direct and Oldest sequences, ids as numbers and as text. Each
answers with all that it was told: the controls, the request's own id and flags, and the sum since START.

A program is a list of requests, sent one by one: random ones, with requests that lack START, come after END, begin
anew, or have no id or a strange one; then one for each rule that takes time or several clients.
"""

import argparse
import http.client
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.servers import gateway, reference

MODEL = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        answers = []
        for request in requests:
            told = {}
            for name in ("INPUT", "START", "READY", "END", "CORRID"):
                tensor = pb_utils.get_input_tensor_by_name(request, name)
                told[name] = None if tensor is None else tensor.as_numpy().reshape(-1)[0].item()
            number = request.correlation_id()
            if told["START"]:
                self.sums[number] = 0
            if told["READY"]:
                self.sums[number] = self.sums.get(number, 0) + told["INPUT"]
            told["id"], told["flags"], told["sum"] = number, request.flags(), self.sums.get(number)
            shape = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy().shape
            output = np.array([json.dumps(told).encode()], dtype=object).reshape(shape)
            answers.append(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("OUTPUT", output)]))
        return answers
"""
CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: {rows}
input [ {{ name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_STRING dims: [ 1 ] }} ]
sequence_batching {{
  max_sequence_idle_microseconds: {idle}
  {strategy}
  control_input [
    {{ name: "START" control [ {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "READY" control [ {{ kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "END" control [ {{ kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] }} ] }}
    {corrid}
  ]
}}
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""
OLDEST, DIRECT = "oldest { max_candidate_sequences: 4 }", "direct { }"
# Not for ids that are text: Triton's Python backend (2.51) refuses every request then, "unexpected number of string
# elements 2 for inference input 'CORRID', expecting 1".
CORRID = ', { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }'
LONG_US, SHORT_US = 600_000_000, 1_000_000
MODELS: Mapping[str, Mapping[str, Any]] = {
    "direct": {"rows": 4, "strategy": DIRECT, "corrid": CORRID, "idle": LONG_US},
    "oldest": {"rows": 4, "strategy": OLDEST, "corrid": CORRID, "idle": LONG_US},
    "direct_text": {"rows": 4, "strategy": DIRECT, "corrid": "", "idle": LONG_US},
    "oldest_text": {"rows": 4, "strategy": OLDEST, "corrid": "", "idle": LONG_US},
    "direct_alone": {"rows": 0, "strategy": DIRECT, "corrid": CORRID, "idle": LONG_US},
    "oldest_alone": {"rows": 0, "strategy": OLDEST, "corrid": CORRID, "idle": LONG_US},
    "direct_idle": {"rows": 4, "strategy": DIRECT, "corrid": CORRID, "idle": SHORT_US},
    "oldest_idle": {"rows": 4, "strategy": OLDEST, "corrid": CORRID, "idle": SHORT_US},
}
# Not text for a model that gets ids as numbers, nor numbers for one that gets text: Triton does not convert them, and
# does not notice.
_STRANGE_NUMBERS = (0, -1, 1 << 63, (1 << 64) - 1, 1 << 64, 1.5, True, None)
_STRANGE_TEXTS = ("", "0", "42", " ", "x" * 128, "x" * 129, "ü", "a\nb", None)


class Step(NamedTuple):
    """One request. pause_s: waited before it. rows: 0 for the usual shape."""

    parameters: Mapping[str, Any]
    value: int = 1
    rows: int = 0
    pause_s: float = 0.0


class Server:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, model: str, step: Step) -> tuple[int, Any]:
        """Return the status, and what the model was told or the error."""
        time.sleep(step.pause_s)
        shape = [step.rows or 1, 1] if MODELS[model]["rows"] else [1]
        tensor = {"name": "INPUT", "datatype": "INT32", "shape": shape, "data": [step.value] * shape[0]}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = json.dumps({"inputs": [tensor], "parameters": step.parameters})
        connection.request("POST", f"/v2/models/{model}/infer", body)
        reply = connection.getresponse()
        document = json.loads(reply.read())
        connection.close()
        if reply.status != 200:
            return reply.status, document["error"]
        return 200, [json.loads(each) for each in document["outputs"][0]["data"]]


def agree(ours: tuple[int, Any], tritons: tuple[int, Any]) -> bool:
    """Errors agree if they begin with the same words; ours may say more."""
    if ours[0] == tritons[0] != 200:
        return bool(ours[1].startswith(tritons[1]))
    return ours == tritons


def random_program(choice: random.Random, model: str) -> list[Step]:
    """At most as many sequences run as there is room for, so that no request waits for another one."""
    is_text = "text" in model
    room = 4 if MODELS[model]["rows"] or "oldest" in model else 1
    ids: list[Any] = [str(each) if is_text else each for each in range(1, room + 1)]
    steps = []
    for _ in range(40):
        parameters: dict[str, Any] = {"sequence_id": choice.choice(ids)}
        if choice.random() < 0.3:
            parameters["sequence_start"] = True
        if choice.random() < 0.2:
            parameters["sequence_end"] = True
        if choice.random() < 0.1:
            del parameters["sequence_id"]
        steps.append(Step(parameters, choice.randrange(-100, 100)))
    return steps + [Step({"sequence_id": each, "sequence_start": True, "sequence_end": True}) for each in ids]


def programs(choice: random.Random, rounds: int) -> Iterator[tuple[str, str, list[Step]]]:
    """Yield title, model, steps."""
    for model in [name for name in MODELS if "idle" not in name]:
        for number in range(rounds):
            yield f"random {number}", model, random_program(choice, model)
        for strange in _STRANGE_TEXTS if "text" in model else _STRANGE_NUMBERS:
            both = {"sequence_start": True, "sequence_end": True}
            yield f"id {str(strange)[:24]!r}", model, [Step({"sequence_id": strange, **both})]
        for flag in (1, "true", None):
            usual = "9" if "text" in model else 9
            yield f"START {flag!r}", model, [Step({"sequence_id": usual, "sequence_start": flag, "sequence_end": True})]
        if MODELS[model]["rows"]:
            both = {"sequence_id": "7" if "text" in model else 7, "sequence_start": True, "sequence_end": True}
            yield "two rows", model, [Step(both, rows=2)]
    for model in ("direct_idle", "oldest_idle"):
        started = Step({"sequence_id": 5, "sequence_start": True})
        yield "idle for longer than allowed", model, [started, Step({"sequence_id": 5}, pause_s=3.0)]
        yield "kept by requests", model, [started, *[Step({"sequence_id": 5}, pause_s=0.5) for _ in range(5)]]
        yield "begins after it was idle", model, [started, started._replace(pause_s=3.0), Step({"sequence_id": 5})]


def side_by_side(server: Server, model: str) -> list[Any]:
    """Six sequences of ten requests each, where there is room for four; each client waits for its answers."""

    def client(number: int) -> list[Any]:
        name = str(number) if "text" in model else number
        every = range(10)
        steps = [
            Step({"sequence_id": name, "sequence_start": each == 0, "sequence_end": each == 9}, each) for each in every
        ]
        return [server.ask(model, step) for step in steps]

    with ThreadPoolExecutor(6) as threads:
        return list(threads.map(client, range(1, 7)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("triton", metavar="TRITON_PYTHON")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asked, differences = 0, 0
    with tempfile.TemporaryDirectory() as made:
        for name, settings in MODELS.items():
            (Path(made) / name / "1").mkdir(parents=True)
            (Path(made) / name / "1" / "model.py").write_text(MODEL)
            (Path(made) / name / "config.pbtxt").write_text(CONFIG.format(name=name, **settings))
        with (
            gateway(Path(made), "--allow-python", models=list(MODELS)) as ours,
            reference("triton_repository", made, ports=("http",), python=options.triton) as triton,
        ):
            servers = Server(ours.ports["http"]), Server(triton.ports["http"])
            for title, model, steps in programs(random.Random(options.seed), options.rounds):
                each = [[server.ask(model, step) for step in steps] for server in servers]
                for number, (step, answers) in enumerate(zip(steps, zip(*each, strict=True), strict=True)):
                    asked += 1
                    if not agree(*answers):
                        differences += 1
                        print(f"{model}: {title}, request {number} {dict(step.parameters)}")
                        print(f"    modelport {answers[0]}\n    Triton    {answers[1]}")
            for model in [name for name in MODELS if "idle" not in name]:
                found = [side_by_side(server, model) for server in servers]
                asked += 60
                if found[0] != found[1]:
                    differences += 1
                    print(f"{model}: side by side")
                    for pair in zip(*(chain.from_iterable(each) for each in found), strict=True):
                        if pair[0] != pair[1]:
                            print(f"    modelport {pair[0]}\n    Triton    {pair[1]}")
    print(f"{asked} requests, {differences} of them with different answers")


if __name__ == "__main__":
    main()
