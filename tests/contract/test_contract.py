"""Run the contract suite over every runtime, each in its own environment, with fake, made and real models.

`suite/` contains the checks, which run in the runtime's interpreter; `make/` makes small models there.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contract.zoo import CASES, ZooCase

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
DIGITS = PROJECT / "examples" / "digits"
RUNTIMES = ["onnx", "torchscript", "savedmodel", "mxnet", "cntk"]

MADE = {
    "executorch": "dense xnnpack state methods table",
    "openvino": (
        "dense half double elements written recurrent peak column narrow noisy strings state gathering dividing "
        "unranked unnamed several beside parameter_unknown on_a_card on_a_gpu weights_missing operator_unknown old "
        "garbage"
    ),
    "onnx": (
        "half bool int64_scalar unknown_rank strings string_scalar string_scalar_empty several_outputs weight_as_input "
        "table_beside small_types no_kernel reshape pad_then_pool quantised_twice quantised_around_floats "
        "batch_norm_training parameter_wrong spinning_wrong unknown_operator faults"
    ),
    "torchscript": (
        "tuple list dict named_tuple nested returns_scalars takes_scalars takes_optional linear undeclared "
        "signature_inside signature_broken declared declared_wrongly writes_to_input keeps_input complains "
        "numbered numbered_wrongly numbered_too_high "
        "precision exported_precision parameter_wrong parameter_unknown "
        "half bool int64 small_types exported exported_dict exported_bfloat16 exported_small_types "
        "exported_writes_to_input exported_nested "
        "exported_counts "
        "faults state_dict not_a_zip none_beside complex_beside sparse_beside gradients inference_mode_off "
        "attention_without_weights no_rows complex_alone wants_a_card without_forward exported_by_2_7 "
        "exported_too_early exported_by_2_8 exported_by_another_schema exported_operator compiled tables "
        "exported_tables exported_guards exported_constants nested_states nested_stems nested_in_order takes_list "
        "takes_list_of_two takes_list_with_gap takes_parts takes_keys takes_named_keys takes_texts takes_mask "
        "takes_all takes_mask_in_batches mixes_without_mask quantized_beside refused_files list_first list_moves"
    ),
    "savedmodel": (
        "half small_types parameter_unknown strings string_scalar string_scalar_empty int64_scalar unknown_rank "
        "default_signature other_signature no_default_signature no_signature assertion corrupt ragged_beside composed "
        "default default_declared calls_python calls_python_beside tags_train_first tags_none_first "
        "tags_tpu_first tags_for_training_only changes_no_state state_train state_remember state_generate state_noisy "
        "v1_serving_default v1_counting session reads_assets faults tables"
    ),
    "mxnet": (
        "dense parameter_unknown epochs half several label_and_shapes missing_weight no_parameters faults lengths "
        "tables graph_only numpy numpy_empty numpy_insert numpy_size numpy_sizes numpy_faults "
        "truncated any_size"
    ),
    "cntk": (
        "dense parameter_unknown several double half unnamed twins table open without_batch sequence last sparse "
        "sparse_pairs garbage truncated empty"
    ),
    "dl4j": (
        "dense parameter_unknown double half several sequence declared undeclared normalized normalizer_left "
        "not_covered pad_then_pool too_few truncated garbage no_coefficients"
    ),
    "tflite": (
        "dense fixed declared twins unnamed several other_signature without_default part_left_out int8 strings scalar "
        "string_scalar string_scalar_zero string_scalar_long string_scalar_empty no_rows "
        "unknown_rank small_types fixed_inside gathering state keeps_state parameter_unknown on_a_card custom flex "
        "float8 garbage truncated empty changes_no_state state_train state_perhaps noisy faults tables"
    ),
}

X_Y = {"inputs": [["x", "FP32", [-1, 4]]], "outputs": [["y", "FP32", [-1, 4]]]}
FAKE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {"expected_signature": X_Y, "bad": [{"x": [[400.0, 1.0, 1.0, 1.0]]}]}),
    "two_inputs": (
        {
            "inputs": [{"name": n, "datatype": d, "shape": [-1]} for n, d in (("a", "INT64"), ("b", "BYTES"))],
            "outputs": [{"name": n, "datatype": d, "shape": [-1]} for n, d in (("c", "INT64"), ("d", "BYTES"))],
        },
        {"values": {"a": [1, 2], "b": ["x", "grün"]}},
    ),
    "scalar": (
        {"inputs": [{"name": "x", "datatype": "FP64", "shape": []}], "outputs": None},
        {"expected_signature": {"outputs": []}},
    ),
    "declared": ({"outputs": None}, {"options": X_Y, "expected_signature": X_Y}),
    "refused": ({"refused": {"z": "it is a map, which the protocol lacks"}}, {"refused": ["z"]}),
    "not_batchable": ({"not_batchable": True}, {"not_batchable": True}),
    "stateful": ({"stateful": True}, {"stateful": True}),
    # Its answers say how many batches were in progress, so they differ.
    "pipelined": ({"pipelined": True}, {"stateful": True}),
    "load_error": ({"load_error": "the model is not to our taste"}, {"load_error": True}),
}

PythonOf = Callable[[str], Path]


def run_suite(python: str | Path, runtime: str, artifact: Path, case: Path, folder: Path | None = None) -> None:
    """Run the suite on one artifact. `folder`: a folder with a runtime.py other than the runtime's own."""
    described = tomllib.loads((PROJECT / "runtimes" / runtime / "runtime.toml").read_text())
    env = os.environ | {key: value.format(threads=1) for key, value in described.get("env", {}).items()}
    command = [python, "-I", HERE / "suite" / "run.py", folder or PROJECT / "runtimes" / runtime, artifact, case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
    failed = [f"{line['check']}: {line['detail']}" for line in lines if not line["ok"]]
    assert lines, done.stderr[-2000:]
    assert not failed, "\n".join(failed)
    assert done.returncode == 0, done.stderr[-2000:]


def write_fake(folder: Path, name: str) -> tuple[Path, Path]:
    artifact, case = folder / "model.fake.json", folder / "case.json"
    artifact.write_text(json.dumps(FAKE[name][0]))
    case.write_text(json.dumps(FAKE[name][1]))
    return artifact, case


@pytest.mark.parametrize("name", FAKE)
def test_fake(name: str, tmp_path: Path) -> None:
    run_suite(sys.executable, "fake", *write_fake(tmp_path, name))


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str | Path], Path]:
    """Return the folder with a runtime's made models, which are made once."""
    made: dict[str, Path] = {}

    def make_once(runtime: str, python: str | Path) -> Path:
        if runtime not in made:
            folder = tmp_path_factory.mktemp(runtime)
            command = [python, HERE / "make" / f"{runtime}.py", folder]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240)
            assert done.returncode == 0, done.stderr[-2000:]
            assert sorted(p.name for p in folder.iterdir()) == sorted(MADE[runtime].split()), "MADE does not list all"
            made[runtime] = folder
        return made[runtime]

    return make_once


MADE_CASES = [
    pytest.param(runtime, name, marks=pytest.mark.runtime(runtime), id=f"{runtime}-{name}")
    for runtime, names in MADE.items()
    for name in names.split()
]


@pytest.mark.parametrize(("runtime", "name"), MADE_CASES)
def test_made(runtime: str, name: str, runtime_python: PythonOf, make: Callable[[str, str | Path], Path]) -> None:
    python = runtime_python(runtime)
    if runtime == "onnx":  # its environment can run models, not write them
        pytest.importorskip("onnx")
    folder = make(runtime, sys.executable if runtime == "onnx" else python) / name
    case = folder / "case.json"
    run_suite(python, runtime, folder / json.loads(case.read_text())["artifact"], case)


OVERWRITTEN = [
    pytest.param(runtime, name, marks=pytest.mark.runtime(runtime), id=f"{runtime}-{name}")
    for runtime, name in [
        ("onnx", "table_beside"),
        ("torchscript", "linear"),
        ("torchscript", "exported"),
        ("savedmodel", "reads_assets"),
        ("openvino", "dense"),
    ]
]


@pytest.mark.parametrize(("runtime", "name"), OVERWRITTEN)
def test_files_that_are_overwritten_change_no_answer(
    runtime: str, name: str, runtime_python: PythonOf, make: Callable[[str, str | Path], Path], tmp_path: Path
) -> None:
    python = runtime_python(runtime)
    if runtime == "onnx":
        pytest.importorskip("onnx")
    made = make(runtime, sys.executable if runtime == "onnx" else python) / name
    artifact = json.loads((made / "case.json").read_text())["artifact"]
    # A separate folder, because everything in it is overwritten.
    copy = shutil.copytree(made, tmp_path / "version") / artifact
    script = [HERE / "overwritten" / "script.py", PROJECT / "runtimes" / runtime, copy, made / "case.json"]
    done = subprocess.run([python, "-I", *script], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


# Streams, copies and handles of a device, with every kind of argument and answer.
STAGED = (
    "tuple dict returns_scalars takes_scalars writes_to_input keeps_input complains precision exported half "
    "complex_beside gradients"
)


@pytest.mark.runtime("torchscript")
@pytest.mark.parametrize("name", STAGED.split())
def test_staged_without_a_device(name: str, runtime_python: PythonOf, make: Callable[[str, str | Path], Path]) -> None:
    """The path for a CUDA device, with torch.cpu's streams and events instead of torch.cuda's."""
    python = runtime_python("torchscript")
    folder = make("torchscript", python) / name
    case = folder / "case.json"
    artifact = folder / json.loads(case.read_text())["artifact"]
    run_suite(python, "torchscript", artifact, case, HERE / "staged")


@pytest.mark.runtime("onnx")
@pytest.mark.parametrize("name", MADE["onnx"].replace("unknown_operator", "").split())
def test_bound_without_a_device(name: str, runtime_python: PythonOf, make: Callable[[str, str | Path], Path]) -> None:
    """ONNX Runtime's IO binding, which is for devices, bound to the CPU."""
    pytest.importorskip("onnx")
    folder = make("onnx", sys.executable) / name
    case = folder / "case.json"
    artifact = folder / json.loads(case.read_text())["artifact"]
    run_suite(runtime_python("onnx"), "onnx", artifact, case, HERE / "bound")


@pytest.mark.runtime("torchscript")
def test_what_a_device_does_is_met(runtime_python: PythonOf) -> None:
    command = [runtime_python("torchscript"), "-I", HERE / "staged" / "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.runtime("torchscript")
def test_rows_in_graphs_of_pytorch(runtime_python: PythonOf) -> None:
    command = [runtime_python("torchscript"), "-I", HERE / "torch_rows.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.runtime("torchscript")
def test_ranges_in_graphs_of_pytorch(runtime_python: PythonOf) -> None:
    command = [runtime_python("torchscript"), "-I", HERE / "torch_ranges.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.runtime("torchscript")
def test_an_operator_of_an_extra_is_there_before_the_model_is_loaded(runtime_python: PythonOf) -> None:
    command = [runtime_python("torchscript"), "-I", HERE / "torch_extras.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.runtime("tflite")
def test_what_an_interpreter_gathers_is_met(runtime_python: PythonOf, make: Callable[[str, str | Path], Path]) -> None:
    python = runtime_python("tflite")
    artifact = make("tflite", python) / "gathering" / "model.tflite"
    command = [python, "-I", HERE / "litert" / "script.py", artifact]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.runtime("tflite")
@pytest.mark.parametrize("what", ["rows", "ranges"])
def test_tensorflow_lite_graphs_are_followed(what: str, runtime_python: PythonOf, tmp_path: Path) -> None:
    command = [runtime_python("tflite"), "-I", HERE / "litert" / f"{what}.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.runtime("mxnet")
@pytest.mark.parametrize("what", ["rows", "ranges"])
def test_mxnet_symbols_are_followed(what: str, runtime_python: PythonOf, tmp_path: Path) -> None:
    command = [runtime_python("mxnet"), "-I", HERE / "mxnet_symbols" / f"{what}.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.runtime("cntk")
def test_rows_of_cntk_functions_are_followed(runtime_python: PythonOf) -> None:
    command = [runtime_python("cntk"), "-I", HERE / "cntk_functions" / "rows.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


ON_CUDA = {"torchscript": STAGED, "onnx": "half bool strings several_outputs reshape"}
ON_CUDA_CASES = [
    pytest.param(runtime, name, marks=pytest.mark.gpu, id=f"{runtime}-{name}")
    for runtime, names in ON_CUDA.items()
    for name in names.split()
]


@pytest.mark.parametrize(("runtime", "name"), ON_CUDA_CASES)
def test_made_on_cuda(
    runtime: str, name: str, cuda_python: PythonOf, make: Callable[[str, str | Path], Path], tmp_path: Path
) -> None:
    python = cuda_python(runtime)
    folder = make(runtime, sys.executable if runtime == "onnx" else python) / name
    case = json.loads((folder / "case.json").read_text())
    case["options"] = {**case.get("options", {}), "device": "cuda"}
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "case.json").write_text(json.dumps(case))
    run_suite(python, runtime, tmp_path / case["artifact"], tmp_path / "case.json")


ZOO_CASES = [
    pytest.param(real, marks=pytest.mark.runtime(real.runtime), id=f"{real.runtime}-{Path(real.folder).name}")
    for real in CASES
]


@pytest.mark.parametrize("real", ZOO_CASES)
def test_zoo(real: ZooCase, zoo: Path, runtime_python: PythonOf, tmp_path: Path) -> None:
    folder = zoo / real.folder
    case = dict(real.case)
    if not case.get("load_error"):
        with np.load(folder / "inputs.npz") as stored:
            inputs = {real.rename_inputs.get(key, key): stored[key] for key in stored.files}
        with np.load(folder / "expected.npz") as stored:
            expected = {real.rename.get(key, key): stored[key] for key in real.rename or stored.files}
        np.savez(tmp_path / "inputs.npz", **inputs, **{k: np.array(v) for k, v in real.extra_inputs.items()})
        np.savez(tmp_path / "expected.npz", **expected)
        case |= {"inputs": "inputs.npz", "expected": "expected.npz"}
    (tmp_path / "case.json").write_text(json.dumps(case))
    run_suite(runtime_python(real.runtime), real.runtime, folder / real.artifact, tmp_path / "case.json")


# What the frameworks' profilers must find: each runs other operators than the others for the same network.
DIGITS_OPERATORS = {
    "onnx": {"layer1": "FusedGemm", "scores": "Softmax"},
    "torchscript": {"layers/0/conv2d": "aten::convolution", "softmax": "aten::_softmax"},
    "savedmodel": {"StatefulPartitionedCall/sequential_1/rescaling_1/mul": "Mul"},
    "mxnet": {"conv0/relu_fwd": "_sg_mkldnn_conv", "digits0/softmax0": "softmax"},
    "cntk": {"Convolution/Convolution228": "Convolution", "scores": "Softmax"},
}

DIGITS_ARTIFACTS = {
    "onnx": "digits_onnx/1/model.onnx",
    "torchscript": "digits_torchscript/1/model.pt",
    "savedmodel": "digits_savedmodel/1/model.savedmodel",
    "mxnet": "digits_mxnet/1/digits-symbol.json",
    "cntk": "digits_cntk/1/digits.model",
}
# Nodes in the graphs of these, with their operators. Most of ONNX Runtime's depend on the processor.
DIGITS_NODES = {
    "onnx": {"image": "Placeholder", "scores": "Softmax"},
    "torchscript": {"image": "Placeholder", "layers/0/weight": "Const", "layers/3/conv2d": "aten::conv2d"},
    "savedmodel": {"image": "Placeholder", "StatefulPartitionedCall/sequential_1/dense_1/MatMul": "MatMul"},
    "mxnet": {"image": "Placeholder", "conv0/weight": "Const", "conv0/fwd": "Convolution"},
    "cntk": {"image": "Placeholder", "Dense/W": "Const", "Convolution_1/ReLU260": "ReLU", "scores": "Softmax"},
}


@pytest.mark.parametrize("runtime", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in RUNTIMES])
def test_digits(runtime: str, runtime_python: PythonOf, tmp_path: Path) -> None:
    """The committed models have the accuracy in examples/digits/accuracy.json, on images that they never saw."""
    declared = {"inputs": [["image", "FP32", [-1, 64]]], "outputs": [["scores", "FP32", [-1, 10]]]}
    accuracy = json.loads((DIGITS / "accuracy.json").read_text())[f"digits_{runtime}"]
    assert accuracy >= 0.95
    with np.load(DIGITS / "heldout.npz") as heldout:
        np.savez(tmp_path / "inputs.npz", image=heldout["image"])
        np.savez(tmp_path / "labels.npz", scores=heldout["label"])
    case: dict[str, Any] = {
        "inputs": "inputs.npz",
        "labels": "labels.npz",
        "accuracy": accuracy,
        "expected_signature": declared,
        "graph": DIGITS_NODES[runtime],
        "operators": DIGITS_OPERATORS[runtime],
    }
    if runtime == "mxnet":  # its files record no shapes; model.toml does
        case["options"] = declared
    (tmp_path / "case.json").write_text(json.dumps(case))
    artifact = PROJECT / "model_repo" / DIGITS_ARTIFACTS[runtime]
    run_suite(runtime_python(runtime), runtime, artifact, tmp_path / "case.json")


# ------------------------------------------------------------------ the common side on the oldest and the newest Python


def common_files() -> list[Path]:
    top = PROJECT / "runtimes"
    return [
        *top.glob("*.py"),
        *(top / "sandbox").glob("*.py"),
        *(top / "worker").glob("*.py"),
        *(top / "fake").glob("*.py"),
        *(HERE / "suite").glob("*.py"),
    ]


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_common_side_compiles(age: str, numpy_python: PythonOf) -> None:
    script = "import sys\nfor path in sys.argv[1:]: compile(open(path, encoding='utf-8').read(), path, 'exec')"
    command = [numpy_python(age), "-I", "-c", script, *common_files()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("age", ["oldest", "newest"])
@pytest.mark.parametrize("name", FAKE)
def test_fake_on_other_pythons(name: str, age: str, numpy_python: PythonOf, tmp_path: Path) -> None:
    run_suite(numpy_python(age), "fake", *write_fake(tmp_path, name))
