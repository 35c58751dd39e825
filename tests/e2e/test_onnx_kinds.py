"""ONNX models as tools leave them: in ONNX Runtime's own format, quantised, optimised, with operators of its own domain
or of onnxruntime-extensions, and run by OpenVINO. Each row gets the answer that ONNX Runtime gives to it alone.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from gateway.environments.model_packages import with_model_packages
from gateway.environments.runtime import discover
from tests.support.environments import ready_environment
from tests.support.gateway_process import Gateway, start_gateway
from tests.support.protocols import EVERY_PROTOCOL, ask_v2_binary

HERE = Path(__file__).parent
WORDS = ["hello worlds bye", "Äpfel", ""]
# Models whose rows influence each other in a batch.
MIXING = {"dynamic_matmul": "DynamicQuantizeMatMul", "quantised_dynamically": "DynamicQuantizeLinear"}
BATCHED = [
    *("fused_matmul", "gelu", "fast_gelu", "bias_gelu", "skip_layer_normalization", "attention", "matmul_n_bits"),
    *("ort", "ort_with_runtime_optimizations", "quantised_operators", "quantised_qdq", "optimised", "openvino"),
]
DELAY = "queue_delay_ms = 20\n"  # so that requests meet
EXTRAS = 'extras = ["extensions", "openvino"]\n'
OPENVINO = (
    EXTRAS + '[parameters]\nexecution_providers = ["OpenVINO"]\nprovider_options.OpenVINO = {device_type = "CPU"}\n'
)
TOML = {
    "openvino": DELAY + OPENVINO,
    "openvino_without_operators": OPENVINO,
    "openvino_of_any_width": "threads = 1\n" + OPENVINO,
    "upper": EXTRAS,
    "length": EXTRAS,
    "tokenizer": EXTRAS,
    "padding_tokenizer": EXTRAS,
    "lacks_provider": '[parameters]\nexecution_providers = ["OpenVINO"]\n',
}


class Served(NamedTuple):
    gateway: Gateway
    expected: dict[str, dict[str, np.ndarray]]
    texts: dict[str, dict[str, list[Any]]]

    def parameter(self, model: str, name: str) -> str:
        parameters = self.gateway.get(f"/v2/models/{model}/config").json()["parameters"]
        return str(parameters[name]["string_value"])


@pytest.fixture(scope="module")
def served(runtime_environment: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    runtime_environment("onnx")
    extras = with_model_packages(discover()["onnx"], Path("nowhere"), extras=("extensions", "openvino"))
    repository = tmp_path_factory.mktemp("kinds")
    made = output_of(runtime_environment("cntk_onnx").python, HERE / "make_onnx_kinds.py", repository)
    texts = output_of(
        ready_environment(extras).python, HERE / "onnx_extensions_script.py", repository, json.dumps(WORDS)
    )
    copy(repository, "gelu", "lacks_provider")
    for folder in repository.iterdir():
        (folder / "model.toml").write_text(TOML.get(folder.name, DELAY))
    gateway = start_gateway(repository, tmp_path_factory.mktemp("scratch")).wait_ready()
    arrays = {model: {"x": np.array(each["x"], np.float32), "y": np.array(each["y"])} for model, each in made.items()}
    yield Served(gateway, arrays, texts)
    gateway.close()


def copy(repository: Path, model: str, name: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.onnx").write_bytes((repository / model / "1" / "model.onnx").read_bytes())


def output_of(python: Path, script: Path, *arguments: Any) -> Any:
    done = subprocess.run([python, "-I", script, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", [*BATCHED, *MIXING])
def test_each_row_gets_its_own_answer_among_others(served: Served, model: str) -> None:
    inputs, expected = served.expected[model].values()

    def ask(row: int) -> np.ndarray:
        return ask_v2_binary(served.gateway, model, {"x": inputs[row : row + 1]})["y"][0]

    with ThreadPoolExecutor(len(inputs)) as clients:
        for _ in range(2):
            found = np.array(list(clients.map(ask, range(len(inputs)))))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", BATCHED)
def test_models_whose_rows_are_independent_are_batched(served: Served, model: str) -> None:
    assert served.parameter(model, "batching") == "batching up to 32 rows"


@pytest.mark.parametrize("model", MIXING)
def test_models_whose_rows_share_a_scale_are_not(served: Served, model: str) -> None:
    assert f": {MIXING[model]} " in served.parameter(model, "batching")


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
@pytest.mark.parametrize("model", ["ort", "openvino"])
def test_every_protocol(served: Served, model: str, protocol: str) -> None:
    inputs, expected = served.expected[model].values()
    found = EVERY_PROTOCOL[protocol](served.gateway, model, {"x": inputs})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_configuration_says_which_provider_runs_what(served: Served) -> None:
    assert served.parameter("openvino", "execution") == "of 4 operators, OpenVINO runs 4, CPU runs 0"
    fallen_back = "of 1 operator, OpenVINO runs 0, CPU runs 1 (LinearClassifier)"
    assert served.parameter("openvino_without_operators", "execution") == fallen_back
    served.gateway.wait_for(r"worker\.openvino_without_operators.*OpenVINO runs 0")
    config = served.gateway.get("/v2/models/gelu/config").json()
    assert "execution" not in config["parameters"]


def test_no_answer_of_openvino_is_that_to_another_request(served: Served) -> None:
    """After a failed run, its device CPU returns what lies in memory, and so does the failed run with one thread."""
    model, right = "openvino_of_any_width", {}
    for rows in range(1, 5):
        right[rows] = served.gateway.infer(model, {"x": [[rows] * 4] * rows})
    for _ in range(2):
        for rows, answer in right.items():
            reply = served.gateway.post(f"/predict/{model}", {"inputs": [[1, 1, 1]] * rows})
            assert reply.status == 400, reply
            assert served.gateway.infer(model, {"x": [[rows] * 4] * rows}) == answer


@pytest.mark.parametrize("model", ["upper", "length", "tokenizer", "padding_tokenizer"])
def test_operators_of_onnxruntime_extensions(served: Served, model: str) -> None:
    texts = WORDS[:1] if "tokenizer" in model else WORDS
    assert served.gateway.infer(model, {"x": texts}) == served.texts[model]


def test_tokenizers_do_not_pad_a_text_to_the_length_of_another(served: Served) -> None:
    batching = served.parameter("padding_tokenizer", "batching")
    assert batching.endswith("of requests that run together differs from that of the same requests alone")
    assert served.parameter("tokenizer", "batching").startswith("batching is off: output 'ids' has shape ")


def test_what_an_environment_lacks_is_refused_with_what_adds_it(served: Served) -> None:
    index = served.gateway.index()
    assert index["lacks_provider", "1"]["reason"] == (
        'this build of ONNX Runtime has no OpenVINO, only CPU; extras = ["openvino"] in model.toml adds it; '
        "allow_cpu_fallback = true in [parameters] serves the model without it"
    )
    assert index["lacks_extension", "1"]["reason"].endswith(
        'is not a registered function/op; extras = ["extensions"] in model.toml adds the operators of '
        "onnxruntime-extensions"
    )
