"""Reads the files that OpenVINO understands."""

import os
import re
from typing import Any

from runtimes.contract import LoadError
from runtimes.redaction import redacted

# Where an error comes from: files of OpenVINO's source, and the nodes that it was converting.
_ORIGIN = re.compile(
    r"^((Caught exception: )?Exception from \S+:|Node \S+ of type |Loading input model$|While validating |Summary:$|"
    r"--? *Conversion)",
    re.I,
)
_CHECK = re.compile(r"(\[\w+\] )?(\w+ node with name '[^']*' )?Check '.*' failed at \S+:?$")
_NO_OPERATION = re.compile(r"No conversion rule found for operations?:? *([^\n]+)|Cannot create (\S+) layer \S+ id")
_VERSION = re.compile(rb'<net [^>]*version="(\d{1,4})"')
_OLDEST = 10  # version of IR


def read_model(core: Any, artifact: str) -> Any:
    """Return the ov.Model. Raises LoadError.

    artifact  an .xml file, whose weights are in the .bin file of the same name if it has any, an .onnx, .tflite,
              .pdmodel or GraphDef file, or the folder of a SavedModel
    """
    if artifact.endswith(".json"):
        raise LoadError(
            "OpenVINO reads PaddlePaddle's .pdmodel, and not its .json: save the model again with "
            "FLAGS_enable_pir_api=0 in the environment"
        )
    is_ir = artifact.endswith(".xml")
    if is_ir:
        _check_version(artifact)
    weights = os.path.splitext(artifact)[0] + ".bin"
    try:
        if is_ir and os.path.isfile(weights):
            return core.read_model(artifact, weights)
        return core.read_model(artifact)
    except Exception as error:  # whatever it is, loading this file again would fail again
        text = str(error)
        if is_ir and not os.path.isfile(weights) and re.search(r"[Ww]eights|\.bin", text):
            name = os.path.basename(weights)
            raise LoadError("its weights are missing: there is no file '%s' beside the .xml file" % name) from error
        operators = sorted({one or other for one, other in _NO_OPERATION.findall(text)})
        if operators:
            raise LoadError("OpenVINO lacks operators of this model: %s" % redacted(", ".join(operators))) from error
        failed = re.search(r"Conversion is failed for: ([^\n]+)", text)
        if failed:
            raise LoadError(
                "OpenVINO cannot convert operators of this model: %s" % redacted(failed.group(1))
            ) from error
        raise LoadError("OpenVINO cannot read this model: %s" % client_message(error)) from error


def _check_version(artifact: str) -> None:
    with open(artifact, "rb") as file:
        found = _VERSION.search(file.read(1024))
    if found and int(found.group(1)) < _OLDEST:
        raise LoadError(
            "it is an IR of version %s, and OpenVINO reads version %d and newer: convert the original model again"
            % (found.group(1).decode(), _OLDEST)
        )


def client_message(error: BaseException) -> str:
    """Return the part of OpenVINO's message that is useful to clients, without source files."""
    lines = [line.strip() for line in str(error).splitlines()]
    useful = [line for line in lines if line and not _ORIGIN.match(line) and not _CHECK.search(line)]
    if not useful:
        useful = [line for line in lines if _CHECK.search(line)][:1]
    return redacted(" ".join(useful[:3]))[:400] or "OpenVINO gives no reason"
