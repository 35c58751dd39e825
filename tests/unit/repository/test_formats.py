"""Artifacts are found by content, and the error for anything else says what is missing."""

import zipfile
from pathlib import Path

import pytest

from gateway.environments.runtime import discover
from gateway.repository.errors import UnknownFormat
from gateway.repository.formats import find_artifact, identify

RUNTIMES = discover()


def torchscript(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/code/__torch__.py", "")


def exported(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/models/model.json", "{}")


def frozen(file: Path) -> None:
    """A GraphDef of one node, whose attributes are longer than a byte can count."""
    node = b"\n\x07scope/x\x12\x0bPlaceholder" + b"*\xc8\x01" + bytes(200)
    file.write_bytes(b"\n\xe1\x01" + node)


def netdef(file: Path) -> None:
    """What Caffe2 wrote: the name of a net, and an operator."""
    file.write_bytes(b"\n\x03net\x12\x0c\n\x01x\x12\x01y\x22\x04Relu")


def openvino(file: Path) -> None:
    file.write_text('<?xml version="1.0"?>\n<net name="Model0" version="11">')


def symbol(file: Path) -> None:
    file.write_text('{\n  "nodes": [\n    {\n      "op": "null"')


def empty(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


CASES = {
    "TorchScript": ({"model.pt": torchscript}, "torchscript", "model.pt"),
    "TorchScript by another name": ({"silero.jit": torchscript}, "torchscript", "silero.jit"),
    "TorchScript for the Lite Interpreter": ({"model.ptl": torchscript}, "torchscript", "model.ptl"),
    "torch.export": ({"model.pt2": exported}, "torchscript", "model.pt2"),
    "SavedModel as TF Serving has it": ({"saved_model.pb": empty}, "savedmodel", "."),
    "SavedModel as Triton has it": ({"model.savedmodel/saved_model.pb": empty}, "savedmodel", "model.savedmodel"),
    "SavedModel as text": ({"saved_model.pbtxt": empty}, "savedmodel", "."),
    "frozen graph": ({"frozen.pb": frozen}, "savedmodel", "frozen.pb"),
    "frozen graph as Triton has it": ({"model.graphdef": frozen}, "savedmodel", "model.graphdef"),
    "SavedModel of Keras": (
        {"saved_model.pb": empty, "keras_metadata.pb": empty, "fingerprint.pb": empty},
        "savedmodel",
        ".",
    ),
    "MXNet": ({"m-symbol.json": symbol, "m-0003.params": empty}, "mxnet", "m-symbol.json"),
    "MXNet without parameters": ({"m-symbol.json": symbol}, "mxnet", "m-symbol.json"),
    "ONNX": ({"any.onnx": empty}, "onnx", "any.onnx"),
    "LiteRT": ({"any.tflite": empty}, "tflite", "any.tflite"),
    "ONNX in a folder, as Triton has it": (
        {"model.onnx/net.onnx": empty, "model.onnx/weights": empty},
        "onnx",
        "model.onnx/net.onnx",
    ),
    "Python": ({"model.py": empty, "helper.py": empty}, "python", "model.py"),
    "source code beside what it made": ({"model.onnx": empty, "model.py": empty}, "onnx", "model.onnx"),
    "OpenVINO": ({"any.xml": openvino, "any.bin": empty}, "openvino", "any.xml"),
    "the one called model": ({"model.onnx": empty, "encoder.onnx": empty}, "onnx", "model.onnx"),
}

WRONG = {
    "a state dict": ({"model.pt": exported}, "'model.pt' is not a pytorch_libtorch archive: it has no entry"),
    "Caffe2": (
        {"predict_net.pb": netdef},
        "'predict_net.pb' is not a file of tensorflow_graphdef: its first bytes are not those of one",
    ),
    "no zip": ({"model.pt": empty}, "'model.pt' is not a pytorch_libtorch archive: it is not a readable zip file"),
    "another file with the name of a symbol": (
        {"m-symbol.json": empty},
        "'m-symbol.json' is not a file of mxnet_symbol",
    ),
    "something else": ({"notes.txt": empty}, "no artifact that a runtime reads: it holds notes.txt; supported are"),
    "nothing": ({}, "it is empty"),
    "another XML file": (
        {"pom.xml": empty},
        "'pom.xml' is not a file of openvino_ir: its first bytes are not those of one",
    ),
    "TensorFlow.js under another name": (
        {"digits.json": empty, "group1-shard1of1": empty},
        "to be a model of tensorflowjs, 'digits.json' needs a file *.weights.bin in the same folder",
    ),
    "several": ({"a.onnx": empty, "b.onnx": empty}, "it holds several artifacts: a.onnx, b.onnx; keep one, or name"),
}


@pytest.mark.parametrize("name", CASES)
def test_found_by_content(tmp_path: Path, name: str) -> None:
    files, runtime, artifact = CASES[name]
    for path, make in files.items():
        make(tmp_path / path)
    found = find_artifact(tmp_path, RUNTIMES)
    assert (found.runtime.name, found.path) == (runtime, tmp_path / artifact)
    if found.path.is_file():
        assert identify(found.path, RUNTIMES) == found


@pytest.mark.parametrize("name", WRONG)
def test_the_error_says_what_is_missing(tmp_path: Path, name: str) -> None:
    files, said = WRONG[name]
    for path, make in files.items():
        make(tmp_path / path)
    with pytest.raises(UnknownFormat) as caught:
        find_artifact(tmp_path, RUNTIMES)
    assert said in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("file", ["any.onnx", "any.tflite", "model.savedmodel/saved_model.pb", "frozen_graph.pb"])
def test_a_runtime_reads_some_formats_only_if_it_is_named(tmp_path: Path, file: str) -> None:
    empty(tmp_path / file)
    only = {"openvino": RUNTIMES["openvino"]}
    assert find_artifact(tmp_path, only, named=True).runtime.name == "openvino"
    assert identify(tmp_path / file, only, named=True).platform == find_artifact(tmp_path, only, named=True).platform
    with pytest.raises(UnknownFormat):
        find_artifact(tmp_path, only)


def test_an_archive_with_compiled_code_is_no_exported_program(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/models/model.json", "{}")
        archive.writestr("model/data/aotinductor/model/a.wrapper.so", "")
    found = find_artifact(tmp_path, RUNTIMES)
    assert (found.platform, found.runtime.export_format(found.platform)) == ("torch_aotinductor", "")
