"""How many unsafe models each of the four checks detects, and how many safe ones it refuses (docs/batching.md).

python -m audit.batching [REPOSITORY …] [--graphs 300] [--savedmodel 300] [--tflite 300] [--mxnet 300]
[--torchscript 300] [--openvino 300]: checks random graphs, and the models of the given repositories.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from audit.onnx_mixing import graphs
from benchmarks.environments import python_of
from gateway.environments.runtime import discover
from gateway.repository.scan import scan

SCRIPT = Path(__file__).with_name("nets_script.py")
Answer = dict[str, Any]
# Runtime → the runtime whose environment runs the script that writes its random graphs.
WRITERS = {"savedmodel": "savedmodel", "tflite": "savedmodel", "mxnet": "mxnet", "torchscript": "torchscript"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", nargs="*", type=Path)
    parser.add_argument("--graphs", type=int, default=300, help="how many of ONNX")
    parser.add_argument("--openvino", type=int, default=0, help="how many of ONNX that OpenVINO runs")
    for runtime in WRITERS:
        parser.add_argument(f"--{runtime}", type=int, default=0, help=f"how many of {runtime}")
    parser.add_argument("--json", type=Path, help="also write every answer to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = {
            runtime: random_graphs(Path(scratch), getattr(arguments, count), runtime)
            for runtime, count in (("onnx", "graphs"), ("openvino", "openvino"))
        }
        for runtime, writer in WRITERS.items():
            found[runtime] = written_graphs(runtime, writer, Path(scratch), getattr(arguments, runtime))
        real = of_repositories(arguments.repository, Path(scratch))
    if arguments.json:
        every = {runtime: answers for runtime, (answers, _) in found.items()}
        arguments.json.write_text(json.dumps({**every, "real": real}, indent=1))
    for answers, steps in found.values():
        print("\n".join([*figure(answers, steps), ""]))
    print("\n".join(listing(real)))


def random_graphs(scratch: Path, count: int, runtime: str) -> tuple[dict[str, Answer], dict[str, str]]:
    """Return the answers by graph name, and the step that mixes rows in each graph ("" if its rows are independent)."""
    jobs, mixing = [], {}
    for graph in graphs(count):
        name = f"graph{graph.seed}"
        file = scratch / f"{name}.onnx"
        file.write_bytes(graph.model.SerializeToString())
        jobs.append({"name": name, "artifact": str(file)})
        mixing[name] = graph.mixing
    return asked(runtime, jobs, scratch), mixing


def written_graphs(runtime: str, writer: str, scratch: Path, count: int) -> tuple[dict[str, Answer], dict[str, str]]:
    """Return what `random_graphs` returns, for files that RUNTIME_graphs.py writes in the environment of `writer`."""
    if not count:
        return {}, {}
    folder = scratch / runtime
    folder.mkdir()
    script = Path(__file__).with_name(f"{runtime}_graphs.py")
    subprocess.run([str(python_of(writer)), str(script), str(folder), str(count)], check=True, capture_output=True)
    written = json.loads((folder / "graphs.json").read_text())
    jobs = [{"name": name, "artifact": str(folder / each["artifact"])} for name, each in written.items()]
    return asked(runtime, jobs, scratch), {name: each["mixing"] for name, each in written.items()}


def of_repositories(repositories: Iterable[Path], scratch: Path) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    by_runtime: dict[str, list[dict[str, Any]]] = {}
    for repository in repositories:
        for config in scan(repository, discover()):
            if config.artifact is None:
                print(f"{repository.name}/{config.name}: {config.problem}")
                continue
            parameters = dict(config.toml.parameters)
            job = {"name": f"{repository.name}/{config.name}", "artifact": str(config.artifact.path)}
            by_runtime.setdefault(config.artifact.runtime.name, []).append({**job, "parameters": parameters})
    for runtime, jobs in by_runtime.items():
        for name, answer in asked(runtime, jobs, scratch).items():
            answers[f"{name} ({runtime})"] = answer
    return answers


def asked(runtime: str, jobs: Sequence[dict[str, Any]], scratch: Path) -> dict[str, Answer]:
    given, target = scratch / f"{runtime}.jobs.json", scratch / f"{runtime}.answers.json"
    folder = str(discover()[runtime].folder)
    given.write_text(json.dumps([{"parameters": {}, **job, "runtime": folder} for job in jobs]))
    variables = {**os.environ, **{key: v.replace("{threads}", "1") for key, v in discover()[runtime].env.items()}}
    command = [str(python_of(runtime)), "-I", str(SCRIPT), str(given), str(target)]
    subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)
    found: dict[str, Answer] = json.loads(target.read_text())
    return found


def figure(answers: dict[str, Answer], mixing: dict[str, str]) -> list[str]:
    """Return the table as lines. A model is unsafe if it was built to mix rows and traffic showed that it does."""
    broken = [name for name, each in answers.items() if "error" in each]
    unsafe = [n for n, each in answers.items() if n not in broken and mixing[n] and (each["rows"] or each["audit"])]
    quiet = [n for n in answers if n not in broken and mixing[n] and n not in unsafe]
    safe = [n for n in answers if n not in broken and not mixing[n]]
    nets = {
        "graph": lambda each: each["graph"] in ("mixes", "writes"),
        "trial (and shapes)": lambda each: bool(each["trial"] or each["shape"]),
        "rows counted": lambda each: each["rows"],
        "audit": lambda each: each["audit"] or each["rows"],
        "graph or trial, at load": lambda each: not each["batched"],
        "all": lambda each: not each["batched"] or each["rows"] or each["audit"],
    }
    lines = [
        f"{len(answers)} graphs: {len(unsafe)} whose rows were seen to meet, {len(quiet)} built so without a visible "
        f"effect, {len(safe)} with independent rows, {len(broken)} that could not be run",
        "",
        "| net | unsafe caught | missed | safe refused wrongly | of those without effect |",
        "|---|---|---|---|---|",
    ]
    for net, caught in nets.items():
        missed = [name for name in unsafe if not caught(answers[name])]
        wrongly = [name for name in safe if caught(answers[name])]
        of_quiet = sum(caught(answers[name]) for name in quiet)
        cells = [net, len(unsafe) - len(missed), len(missed), f"{len(wrongly)} of {len(safe)}", of_quiet]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    claimed = [name for name in unsafe if answers[name]["graph"] == "independent"]
    proven = sum(answers[name]["graph"] == "independent" for name in safe)
    lines += ["", f"shown to be independent by the graph: {proven} of {len(safe)} safe, {len(claimed)} unsafe"]
    lines += [f"missed at load: {n} ({mixing[n]}): {answers[n]}" for n in unsafe if answers[n]["batched"]]
    lines += [f"refused wrongly: {name}: {answers[name]}" for name in safe if not answers[name]["batched"]]
    lines += [f"not run: {name}: {answers[name]['error']}" for name in broken]
    return lines


def listing(answers: dict[str, Answer]) -> list[str]:
    lines = ["| model | graph | batched | why not |", "|---|---|---|---|"]
    for name, each in answers.items():
        if "error" in each:
            lines.append(f"| {name} | | | {each['error']} |")
            continue
        why = each["shape"] or each["trial"] or ", ".join(each.get("why", []))
        seen = " (traffic shows a difference)" if each["batched"] and (each["rows"] or each["audit"]) else ""
        lines.append(f"| {name} | {each['graph']} | {'yes' if each['batched'] else 'no'}{seen} | {why} |")
    return lines


if __name__ == "__main__":
    main()
