"""Files of Keras 3, 2 and 1 return what Keras itself computed, in every protocol.

Keras 3 runs on TensorFlow and PyTorch, Keras 2 on TensorFlow, and Keras 1 on Theano. A file of Keras 3.15.1 on JAX
0.10.2 is in the folder keras_on_jax, made by `make_keras.py jax`.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.environments.runtime import Runtime
from gateway.export.comparison import within
from tests.support import ROOT
from tests.support.client_environments import run_client
from tests.support.environments import ready_environment
from tests.support.export_runs import run_export
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.model_repositories import add_copy
from tests.support.protocols import EVERY_PROTOCOL, PROTOCOLS

HERE = Path(__file__).parent
SERVED = {
    "keras": ("image.h5", "mixed.keras", "text.keras", "stateful.h5"),
    "tf_keras": ("image.h5", "mixed.keras", "several.h5", "text.keras", "stateful.h5", "calls.h5"),
    "torch": ("mixed.keras",),
    "jax": ("mixed.keras",),
    "keras_1": ("image.h5", "mixed.h5"),
}
KERAS_1 = Runtime(
    "test-keras-1", "Keras 1", ROOT, "==3.6.*",
    requirements={
        "cpu": (
            "keras==1.2.2", "theano==1.0.5", "h5py==2.10.0", "numpy==1.19.5", "scipy==1.5.4", "pyyaml==5.4.1",
            "six==1.17.0",
        )
    },
)  # fmt: skip
BACKEND = '[parameters]\nbackend = "theano"\n'
CODE = "which is code outside of Keras and not in the file"
REFUSED = {
    "lambda.keras": "the model contains Lambda in layer 'lambda', which runs Python code in the file",
    "lambda_h5.h5": "the model contains Lambda in layer 'lambda', which runs Python code in the file",
    "custom.keras": CODE,
    "custom_h5.h5": CODE,
    "sparse.keras": "input 'rows' cannot be served: it is sparse or ragged, which the protocol lacks",
    "alone.weights.h5": "this file holds weights alone, without the model that they belong to",
    "link.h5": "'more' in the file is a link, which Keras does not write",
    "external.h5": "the data of 'more' is in another file",
    "bomb.h5": "'more' expands to 1099511627776 bytes, which is too much",
}
EDITED = {
    "above": "the archive has the entry '../above', which Keras does not write",
    "twice": "the archive has the entry 'config.json' twice",
    "module": "the model needs 'system' of module 'os'",
    "empty": "the archive has no entry config.json",
    "cut": "the file is not a readable .keras archive",
}
MODELS = [(which, file) for which, files in SERVED.items() for file in files]


@pytest.fixture(scope="module")
def made(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Keras → a folder with its files and answers."""
    savedmodel, torch = (runtime_environment(name).python for name in ("savedmodel", "torchscript"))
    # Keras itself is the same package for all backends.
    (packages,) = savedmodel.parent.parent.glob("lib/python3*/site-packages")
    folders = {"jax": HERE / "keras_on_jax"}
    folders["keras_1"] = tmp_path_factory.mktemp("keras_1")
    run_client(ready_environment(KERAS_1).python, HERE / "make_keras_1.py", str(folders["keras_1"]))
    for which in ("keras", "tf_keras", "torch"):
        folders[which] = tmp_path_factory.mktemp(which)
        more = [str(packages)] if which == "torch" else []
        run_client(torch if which == "torch" else savedmodel, HERE / "make_keras.py", which, str(folders[which]), *more)
    return folders


def edited(file: Path, how: str, made: Path) -> Path:
    """Write a .keras file with something wrong."""
    with warnings.catch_warnings(), zipfile.ZipFile(file) as old, zipfile.ZipFile(made, "w") as new:
        warnings.simplefilter("ignore")  # about the name that is there twice
        for name in old.namelist():
            if how != "empty":
                content = old.read(name)
                if how == "module":
                    dense = b'"module": "keras.layers", "class_name": "Dense"'
                    content = content.replace(dense, b'"module": "os", "class_name": "system"')
                new.writestr(name, content)
        if how == "above":
            new.writestr("../above", b"")
        if how == "twice":
            new.writestr("config.json", b"{}")
    if how == "cut":
        made.write_bytes(made.read_bytes()[:-100])
    return made


def name_of(which: str, file: str) -> str:
    return f"{which}_{file.replace('.', '_')}"


@pytest.fixture(scope="module")
def serving(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    scratch = tmp_path_factory.mktemp("serving")
    for which, file in MODELS:
        toml = BACKEND if (which, file) == ("keras_1", "image.h5") else ""
        add_copy(scratch / "repository", name_of(which, file), [made[which] / file], toml=toml)
    for how in EDITED:
        file = edited(made["keras"] / "mixed.keras", how, scratch / f"{how}.keras")
        add_copy(scratch / "repository", how, [file])
    add_copy(scratch / "repository", "unknown", [made["keras_1"] / "image.h5"])
    add_copy(scratch / "repository", "even", [made["keras_1"] / "even.h5"], toml=BACKEND)
    add_copy(scratch / "repository", "named", [made["keras"] / "named.keras"])
    for which in ("keras", "tf_keras"):
        for file in (*REFUSED, "masked.h5"):
            add_copy(scratch / "repository", name_of(which, file), [made[which] / file])
    running = start_gateway(scratch / "repository", scratch).wait_ready()
    yield running
    running.close()


def case(folder: Path, file: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return inputs, and the outputs that Keras computed for them."""
    with np.load(folder / f"{file.partition('.')[0]}.npz", allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    given = {name[3:]: array for name, array in found.items() if name.startswith("in:")}
    encode = np.vectorize(str.encode, otypes=[object])
    given = {name: encode(array) if array.dtype.kind == "U" else array for name, array in given.items()}
    return given, {name[4:]: array for name, array in found.items() if name.startswith("out:")}


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize(("which", "file"), MODELS)
def test_answers_equal_those_of_keras(
    made: dict[str, Path], serving: Gateway, which: str, file: str, protocol: str
) -> None:
    given, wanted = case(made[which], file)
    answer = EVERY_PROTOCOL[protocol](serving, name_of(which, file), given)
    assert sorted(answer) == sorted(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(answer[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_batching_is_decided_by_the_graph(serving: Gateway) -> None:
    for name in (
        "keras_mixed_keras",
        "tf_keras_mixed_keras",
        "torch_mixed_keras",
        "jax_mixed_keras",
        "keras_1_mixed_h5",
    ):
        serving.wait_for(rf"{name} version 1 is READY, batching up to 32 rows")
    serving.wait_for(r"tf_keras_stateful_h5 version 1 is READY, (?!batching up)")


def test_a_state_starts_from_zero_in_each_request(made: dict[str, Path], serving: Gateway) -> None:
    """The tests above have asked before."""
    given, wanted = case(made["keras"], "stateful.h5")
    answers = [PROTOCOLS["grpc"](serving, "keras_stateful_h5", given)["state"] for _ in range(2)]
    for answer in answers:
        np.testing.assert_allclose(answer, wanted["state"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("file", REFUSED)
@pytest.mark.parametrize("which", ["keras", "tf_keras"])
def test_code_and_weights_alone_are_refused(made: dict[str, Path], serving: Gateway, which: str, file: str) -> None:
    status = serving.index()[name_of(which, file), "1"]
    assert status["state"] == "UNAVAILABLE"
    assert REFUSED[file] in status["reason"]
    assert not (made[which] / "executed").exists()


@pytest.mark.parametrize("how", EDITED)
def test_damaged_and_hostile_archives_are_refused(serving: Gateway, how: str) -> None:
    status = serving.index()[how, "1"]
    assert status["state"] == "UNAVAILABLE"
    assert EDITED[how] in status["reason"]


def test_the_reason_is_what_keras_says_last(serving: Gateway) -> None:
    reason = serving.index()["named", "1"]["reason"]
    assert re.fullmatch(r"Keras cannot load this file, which Keras 3\S+ wrote: '\u00e9' is not a valid .*", reason)


def test_masks_in_h5_files_of_keras_3(serving: Gateway) -> None:
    """Keras 3 cannot load these itself. Keras 2 can."""
    reason = serving.index()["keras_masked_h5", "1"]["reason"]
    assert "Keras cannot load this file, which Keras 3" in reason
    assert reason.endswith("Unknown layer: 'NotEqual'; save the model as a .keras file")
    assert serving.index()["tf_keras_masked_h5", "1"]["state"] == "READY"


def test_what_theano_computes_otherwise_is_refused(serving: Gateway) -> None:
    index = serving.index()
    assert "does not say whether TensorFlow or Theano trained its convolutions" in index["unknown", "1"]["reason"]
    assert "(Conv2D) otherwise than TensorFlow" in index["even", "1"]["reason"]


def test_exports_have_the_parameters_of_the_model(
    made: dict[str, Path], runtime_environment: Callable[[str], Any], tmp_path: Path
) -> None:
    """Without `backend`, the kernels of the convolutions would not be known to be reversed."""
    python, folder, out = runtime_environment("savedmodel").python, made["keras_1"], tmp_path / "out.npz"
    script = HERE / "convert_keras_script.py"
    run_client(python, script, str(folder / "image.h5"), "theano", str(folder / "image.npz"), str(out))
    _, wanted = case(folder, "image.h5")
    with np.load(out) as found:
        assert sorted(found.files) == sorted(wanted)
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
    folder = made["keras"]
    said = run_client(python, script, str(folder / "stateful.h5"), "", str(folder / "stateful.npz"), str(out))
    assert "refused: the model has layers with stateful=True, whose state exports do not keep" in said


def test_an_export_is_proven(made: dict[str, Path], tmp_path: Path) -> None:
    """The SavedModel in between has other names than the file and the result."""
    add_copy(tmp_path / "repository", "mixed", [made["keras"] / "mixed.keras"])
    report = run_export("mixed", "tflite", tmp_path / "out", repository=tmp_path / "repository")
    assert [each[0] for each in report.inputs] == ["a", "b"]
    assert [each[0] for each in report.outputs] == ["class", "score"]
    assert all(within(each, 1e-4) for run in report.runs for each in run.differences)
