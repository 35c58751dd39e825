"""Writes TFLite metadata: names, descriptions and labels inside the file, for the tools of Android Studio and iOS.

The tables are those of metadata_schema.fbs (tensorflow/tflite-support). They are written by field number, because no
package with the generated code is maintained. Label files are in a zip archive appended to the model.
"""

import io
import zipfile
from typing import Any, Dict, List, Sequence

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from runtimes.contract import TensorSpec
from runtimes.conversion import Step

_NAME = "TFLITE_METADATA"
_LABELS = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
# Field numbers in metadata_schema.fbs.
_FILE_NAME, _FILE_DESCRIPTION, _FILE_TYPE = 0, 1, 2
_TENSOR_NAME, _TENSOR_DESCRIPTION, _TENSOR_FILES = 0, 1, 6
_GRAPH_INPUTS, _GRAPH_OUTPUTS = 2, 3
_MODEL_NAME, _MODEL_DESCRIPTION, _MODEL_VERSION, _MODEL_GRAPHS, _MODEL_PARSER = 0, 1, 2, 3, 7


def add_metadata(step: Step) -> None:
    """options: name, version, description, labels (output → its labels)."""
    model = flatbuffer_utils.read_model(step.source)
    labels: Dict[str, List[str]] = step.options["labels"]
    names = [spec.name for spec in step.outputs if spec.name in labels]
    files = {name: "labels_%s.txt" % _plain(name) for name in names}
    if len(set(files.values())) < len(files):
        files = {name: "labels_%d.txt" % index for index, name in enumerate(names)}
    buffer = schema.BufferT()
    buffer.data = list(_metadata(step, files))
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers) - 1
    model.metadata = [each for each in model.metadata or [] if each.name not in (_NAME, _NAME.encode())] + [entry]
    flatbuffer_utils.write_model(model, step.destination)
    if files:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, file in files.items():
                archive.writestr(file, "\n".join(labels[name]))
        with open(step.destination, "ab") as file:
            file.write(packed.getvalue())


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _metadata(step: Step, files: Dict[str, str]) -> bytes:
    builder = flatbuffers.Builder(1024)
    inputs = _vector(builder, [_tensor(builder, spec, "") for spec in step.inputs])
    outputs = _vector(builder, [_tensor(builder, spec, files.get(spec.name, "")) for spec in step.outputs])
    graph = _table(builder, 6, {_GRAPH_INPUTS: inputs, _GRAPH_OUTPUTS: outputs})
    fields = {
        _MODEL_NAME: builder.CreateString(step.options["name"]),
        _MODEL_DESCRIPTION: builder.CreateString(step.options["description"]),
        _MODEL_VERSION: builder.CreateString(step.options["version"]),
        _MODEL_GRAPHS: _vector(builder, [graph]),
        _MODEL_PARSER: builder.CreateString("1.0.0"),
    }
    builder.Finish(_table(builder, 8, fields), b"M001")
    return bytes(builder.Output())


def _tensor(builder: Any, spec: TensorSpec, labels: str) -> int:
    description = "%s %s" % (spec.datatype, list(spec.shape or ()))
    fields = {_TENSOR_NAME: builder.CreateString(spec.name), _TENSOR_DESCRIPTION: builder.CreateString(description)}
    if labels:
        name = builder.CreateString(labels)
        description = builder.CreateString("the classes of '%s', one per line" % spec.name)
        builder.StartObject(5)
        builder.PrependUOffsetTRelativeSlot(_FILE_NAME, name, 0)
        builder.PrependUOffsetTRelativeSlot(_FILE_DESCRIPTION, description, 0)
        builder.PrependInt8Slot(_FILE_TYPE, _LABELS, 0)
        fields[_TENSOR_FILES] = _vector(builder, [builder.EndObject()])
    return _table(builder, 7, fields)


def _table(builder: Any, size: int, fields: Dict[int, int]) -> int:
    builder.StartObject(size)
    for number, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    return builder.EndObject()  # type: ignore[no-any-return]


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()  # type: ignore[no-any-return]
