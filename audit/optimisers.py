"""Finds models whose answers a runtime's graph optimizer changes.

python -m audit.optimisers [RUNTIME …] [--graphs 300] [--first 0]: runs real and generated models with and without the
optimizer, and prints the differences beyond float noise. The name of a generated model ends in its seed;
`--first SEED --graphs 1` generates that model again.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from audit import onnx_fusions, onnx_mixing
from benchmarks.environments import python_of
from gateway.environments.runtime import discover

HERE = Path(__file__).parent
ZOO = Path(os.environ.get("MODELPORT_ZOO", HERE.parent.parent / "shared" / "zoo"))
# Runtime → the folder of its models in the zoo, and the runtime whose environment generates models, if any.
RUNTIMES = {
    "onnx": ("onnx", ""),
    "cntk_onnx": ("cntk", ""),
    "dl4j": ("dl4j", ""),
    "savedmodel": ("savedmodel", "savedmodel"),
    "tflite": ("tflite", "savedmodel"),
    "torchscript": ("torchscript", "torchscript"),
    "mxnet": ("mxnet", "mxnet"),
}
# The variants compared with "off": "served" runs the model as modelport does, "plain" as the framework does by default.
VARIANTS = {name: ("served", "plain") if name in ("onnx", "cntk_onnx", "dl4j") else ("served",) for name in RUNTIMES}
OFF = {"mxnet": {"MXNET_SUBGRAPH_BACKEND": "NONE", "MXNET_MKLDNN_ENABLED": "0", "MXNET_EXEC_ENABLE_ADDTO": "0"}}
# Inputs that are missing from the zoo's files.
VALUES = {"silero_vad": {"sr": 16000}}
Job = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime", nargs="*", help=f"of {', '.join(RUNTIMES)}; all, if none is named")
    parser.add_argument("--graphs", type=int, default=300, help="how many ONNX graphs of each sort; a tenth elsewhere")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    print("| runtime | run as | model | what differs |\n|---|---|---|---|", flush=True)
    counts = []
    for runtime in arguments.runtime or RUNTIMES:
        with tempfile.TemporaryDirectory() as scratch:
            seeds = range(arguments.first, arguments.first + arguments.graphs)
            jobs = [*of_zoo(runtime), *generated(runtime, seeds, Path(scratch))]
            counts.append(f"{runtime}: {compared(runtime, jobs, Path(scratch))}")
    print("\n" + "\n".join(counts))


def of_zoo(runtime: str) -> list[Job]:
    jobs = []
    for case in sorted(ZOO.glob(f"{RUNTIMES[runtime][0]}/*/case.json")):
        artifact = case.parent / json.loads(case.read_text())["artifacts"][0]["path"]
        job = {"name": case.parent.name, "artifact": str(artifact), "inputs": str(case.parent / "inputs.npz")}
        jobs.append({**job, "values": VALUES.get(case.parent.name, {})})
    return jobs


def generated(runtime: str, seeds: range, scratch: Path) -> list[Job]:
    maker = RUNTIMES[runtime][1]
    if runtime == "onnx":
        graphs = [graph for graph in onnx_mixing.graphs(len(seeds), seeds.start) if graph.mixing != "noise"]
        models = {f"{graph.mixing or 'independent'} {graph.seed}": graph.model for graph in graphs}
        models.update({f"{' '.join(steps)} {seed}": model for seed, steps, model in onnx_fusions.graphs(seeds)})
        for index, model in enumerate(models.values()):
            (scratch / f"{index}.onnx").write_bytes(model.SerializeToString())
        return [{"name": name, "artifact": str(scratch / f"{index}.onnx")} for index, name in enumerate(models)]
    if not maker:
        return []
    count = max(1, len(seeds) // 10)
    script = HERE / f"optimisers_{'tensorflow' if maker == 'savedmodel' else maker}.py"
    command = [str(python_of(maker)), str(script), runtime, str(scratch), str(seeds.start), str(count)]
    run(command, variables(maker))
    made: list[Job] = json.loads((scratch / "models.json").read_text())
    return made


def compared(runtime: str, jobs: list[Job], scratch: Path) -> str:
    """Print a row for each model that differs. Return how many models ran, by variant.

    "off" runs first, because it stores the answers that the other variants are compared with.
    """
    given = scratch / "jobs.json"
    given.write_text(json.dumps([{**job, "runtime": str(discover()[runtime].folder)} for job in jobs]))
    totals = []
    for variant in ("off", *VARIANTS[runtime]):
        report = scratch / f"{variant}.json"
        command = [str(python_of(runtime)), "-I", str(HERE / "optimisers_script.py"), str(given), runtime, variant]
        extra = OFF.get(runtime, {}) if variant == "off" else {}
        run([*command, str(report)], {**variables(runtime), **extra})
        found: dict[str, str] = json.loads(report.read_text())
        for name, text in found.items():
            if text:
                print(f"| {runtime} | {variant} | {name} | {text.replace('|', ' ')} |", flush=True)
        differing = sum(bool(text) for text in found.values())
        totals.append(f"{variant}: {len(found)} models, {differing} {'failed' if variant == 'off' else 'differ'}")
    return "; ".join(totals)


def run(command: list[str], environment: dict[str, str]) -> None:
    """Run a command without showing its output, because frameworks log a lot.

    Raises SystemExit with the end of the error output if the command fails.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def variables(runtime: str) -> dict[str, str]:
    return {**os.environ, **{key: v.replace("{threads}", "1") for key, v in discover()[runtime].env.items()}}


if __name__ == "__main__":
    main()
