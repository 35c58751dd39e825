"""Reads MAR-INF/MANIFEST.json, which torch-model-archiver (TorchServe) and model-archiver (Multi Model Server) write.

TorchServe's names the serialized model, and the handler that turns requests into its inputs and outputs into answers. A
handler is one of TorchServe's own, by name, or a program in the archive. Multi Model Server's handler is always a
program; signature.json has the names and shapes of the inputs, and synset.txt the labels.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.contents.names import is_name
from gateway.environments.small_file import read_small
from gateway.repository.handler import (
    MULTI_MODEL_SERVER,
    REQUIREMENTS,
    TORCHSERVE,
    BrokenArchive,
    Handler,
    extras_of,
    read_settings,
)
from gateway.repository.image_config import PostprocessToml, PreprocessToml
from runtimes.contract import TensorSpec

_MANIFEST = Path("MAR-INF", "MANIFEST.json")
_MAX_BYTES = 8 << 20  # of a JSON or text file in an archive; labels of 20,000 classes have 1 MiB
_MAX_LABELS = 1 << 16

# What TorchServe's handlers for images do: the shorter side becomes 256, the centre of 224 x 224 is cut out.
_IMAGENET = PreprocessToml(
    size=(224, 224),
    resize="crop",
    shorter_side=256,
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# TorchScript has no datatypes and shapes, and without these a model is neither batched nor exported.
_IMAGES = (TensorSpec("INPUT__0", "FP32", (-1, *_IMAGENET.resolve().shape(1)[1:])),)
# The handler image_classifier needs a row of scores for each image.
_SCORES = (TensorSpec("OUTPUT__0", "", (-1, -1)),)


class Archive(NamedTuple):
    """What an archive says about the model in it.

    folder            with its content
    file              of the model, in the folder; "" if its format decides
    version           as the manifest has it, such as "1.0"
    inputs, outputs   as signature.json declares them, or the handler makes them
    labels            of the classes
    warning           what is not done for requests that the archive's own server does; "" if nothing
    unserved_handler  why its handler is not available, if only the operator may decide to serve the model without it
    handler           a program that answers requests; None if settings of the model take its place
    needs_handler     whether only the handler says what clients send, so that the model is not served alone
    is_eager          whether the model is weights, which only a handler can load
    """

    folder: Path
    file: str = ""
    version: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    preprocess: PreprocessToml | None = None
    postprocess: PostprocessToml | None = None
    labels: tuple[str, ...] = ()
    warning: str = ""
    unserved_handler: str = ""
    handler: Handler | None = None
    needs_handler: bool = False
    is_eager: bool = False

    def served_by(self, handler: Handler) -> "Archive":
        """What the archive says to clients of its handler: nothing about the model behind it."""
        return Archive(self.folder, version=self.version, handler=handler)


def is_model_archive(folder: Path) -> bool:
    return (folder / _MANIFEST).is_file() or bool(_legacy_model(folder))


def _legacy_model(folder: Path) -> Mapping[str, Any]:
    """Return the entry of the model in the manifest that Multi Model Server had up to 0.4; empty if it is another."""
    file = folder / _MANIFEST.name
    try:
        model = _mapping(_mapping(_read_json(file)).get("Model")) if file.is_file() else {}
    except BrokenArchive:
        return {}
    return model if "Model-Format" in model else {}


def read_model_archive(folder: Path) -> Archive:
    """Read the manifest in a folder, and the files that belong to it. Raises BrokenArchive."""
    if not (folder / _MANIFEST).is_file():
        return _of_legacy_server(folder)
    manifest = _mapping(_read_json(folder / _MANIFEST))
    model = _mapping(manifest.get("model"))
    if not model:
        raise BrokenArchive(f"its {_MANIFEST.name} has no object 'model', which says what is in it; archive it again")
    version, handler, file = (_text(model, key) for key in ("modelVersion", "handler", "serializedFile"))
    if file:
        _check_held(folder, file, "model")
    elif "archiverVersion" not in manifest:  # TorchServe's archiver writes it, Multi Model Server's does not
        if not handler:
            raise BrokenArchive("its manifest names no handler")
        return _of_multi_model_server(folder, version, handler)
    archive = Archive(folder, file, version, labels=_index_to_name(folder), is_eager=bool(_text(model, "modelFile")))
    return _of_torchserve(archive, handler, model)


def _check_held(folder: Path, file: str, what: str) -> None:
    """Raises BrokenArchive if the folder does not have a file that the manifest names."""
    if Path(file).name != file or not is_name(file) or not (folder / file).is_file():
        raise BrokenArchive(f"its manifest names the {what} '{file[:100]}', which it does not hold")


def _of_torchserve(archive: Archive, handler: str, model: Mapping[str, Any]) -> Archive:
    """Return the archive with what its handler is, as the manifest's entry `model` says. Raises BrokenArchive."""
    if not archive.file or archive.is_eager:
        return _with_handler(archive, handler, model)
    if handler == "image_classifier":
        return archive._replace(
            inputs=_IMAGES, outputs=_SCORES, preprocess=_IMAGENET, postprocess=PostprocessToml(softmax=True, top_k=5)
        )
    if handler == "image_segmenter":
        warning = "answers have the model's own outputs, where its handler image_segmenter has one class for each pixel"
        return archive._replace(inputs=_IMAGES, preprocess=_IMAGENET, warning=warning)
    if handler == "base_handler":
        return archive
    if not handler:
        return archive._replace(unserved_handler="its manifest names no handler")
    return _with_handler(archive, handler, model)


def _with_handler(archive: Archive, name: str, model: Mapping[str, Any]) -> Archive:
    if not name:
        raise BrokenArchive("its manifest names no handler")
    requirements, config = _text(model, "requirementsFile"), _text(model, "configFile")
    for file in filter(None, (requirements, config)):
        _check_held(archive.folder, file, "file")
    own = name.partition(":")[0].removesuffix(".py").rpartition("/")[2]
    is_held = (archive.folder / f"{own}.py").is_file()
    extras = extras_of(archive.folder, TORCHSERVE, "" if is_held else own)
    handler = Handler(name[:100], _MANIFEST.as_posix(), extras, requirements)
    if config:
        handler = handler._replace(settings=read_settings(archive.folder / config))
    return archive._replace(handler=handler, needs_handler=True)


def _of_legacy_server(folder: Path) -> Archive:
    model = _legacy_model(folder)
    if _text(model, "Model-Format") != "MXNet-Symbolic":
        raise BrokenArchive("its model is a program of Gluon, which is not run: export it as a symbol instead")
    warning = f"its service {_text(model, 'Service')[:100]} is a program, which is not run: requests are for the model"
    return _of_multi_model_server(folder, "", "")._replace(handler=None, warning=warning)


def _of_multi_model_server(folder: Path, version: str, handler: str) -> Archive:
    inputs, outputs = _signature(folder / "signature.json")
    archive = Archive(folder, "", version, inputs, outputs, labels=_synset(folder))
    requirements = REQUIREMENTS if (folder / REQUIREMENTS).is_file() else ""
    extras = extras_of(folder, MULTI_MODEL_SERVER, "")
    program = Handler(handler[:100], _MANIFEST.as_posix(), extras, requirements)
    return archive._replace(handler=program, warning=program.not_run)


def _signature(file: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    if not file.is_file():
        return (), ()
    signature = _mapping(_read_json(file))
    try:
        inputs = tuple(
            TensorSpec(each["data_name"], "", (-1, *(int(size) or -1 for size in each["data_shape"][1:])))
            for each in signature["inputs"]
        )
        # Shapes of outputs are for people: no server reads them.
        outputs = tuple(TensorSpec(each["data_name"], "", None) for each in signature.get("outputs", ()))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BrokenArchive(f"its {file.name} does not have 'inputs' with 'data_name' and 'data_shape'") from None
    for spec in (*inputs, *outputs):
        if (
            not isinstance(spec.name, str)
            or not spec.name
            or not spec.name.isprintable()
            or any(size < -1 for size in spec.shape or ())
        ):
            raise BrokenArchive(f"its {file.name} has a tensor without a printable name, or with a negative size")
    return inputs, outputs


def _index_to_name(folder: Path) -> tuple[str, ...]:
    """Return the labels in index_to_name.json: {"0": "tench"}, {"0": ["n01440764", "tench"]}, or of the older form."""
    file = folder / "index_to_name.json"
    if not file.is_file():
        return ()
    names = _mapping(_read_json(file))
    older = names.get("object_type_names")
    if isinstance(older, list):
        names = {str(index): name for index, name in enumerate(older)}
    found: dict[int, str] = {}
    for index, name in names.items():
        last = name[-1] if isinstance(name, list) and name else name
        if not (index.isascii() and index.isdigit() and int(index) < _MAX_LABELS and isinstance(last, str)):
            raise BrokenArchive(f"its {file.name} does not have a label, or a list of labels, for each index")
        found[int(index)] = last
    return tuple(found.get(index, "") for index in range(max(found, default=-1) + 1))


def _synset(folder: Path) -> tuple[str, ...]:
    file = folder / "synset.txt"
    if not file.is_file():
        return ()
    try:
        lines = read_small(file, _MAX_BYTES, BrokenArchive).decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise BrokenArchive(f"its {file.name} is not UTF-8") from None
    return tuple(line.strip() for line in lines)


def _read_json(file: Path) -> Any:
    try:
        value = json.loads(read_small(file, _MAX_BYTES, BrokenArchive))
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # JSON can write halves of characters ("\ud800"), which no protocol can
        raise BrokenArchive(f"its {file.name} has text that is not Unicode") from None
    except (ValueError, RecursionError):
        raise BrokenArchive(f"its {file.name} is not JSON") from None
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(record: Mapping[str, Any], key: str) -> str:
    """Return a text that may be in a line of the log."""
    value = record.get(key)
    text = str(value) if isinstance(value, str | int | float) else ""
    return "".join(each if each.isprintable() else "?" for each in text)
