"""The page beside an exported model: index.html and all that it loads, from the folder alone."""

import html
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.environments.environment import Environment
from gateway.export.report import Report
from gateway.export.source import Source
from gateway.repository.image_config import incompatibility

_PAGES = Path(__file__).parent / "pages"
_COMMON = ("page.css", "image.js", "page.js")


class Library(NamedTuple):
    """One of npm's packages. files: of the package → where they go under lib/."""

    package: str
    licence: str
    holder: str
    files: Mapping[str, str]


class Engine(NamedTuple):
    """What runs a format in a page. scripts: of lib/, by <script>; imports: for an import map, name → file of lib/."""

    title: str
    runner: str
    libraries: tuple[Library, ...]
    backends: tuple[str, ...]
    scripts: tuple[str, ...] = ()
    imports: Mapping[str, str] = {}


_GOOGLE, _MICROSOFT = "Copyright Google LLC", "Copyright (c) Microsoft Corporation"
_TF_WASM = ("tfjs-backend-wasm.wasm", "tfjs-backend-wasm-simd.wasm")
# With relaxed SIMD, and for browsers that lack it.
_LITERT_WASM = [f"litert_wasm_{kind}internal.{end}" for kind in ("", "compat_") for end in ("js", "wasm")]

ENGINES = {
    "tfjs": Engine(
        "TensorFlow.js",
        "run_tfjs.js",
        (
            Library("@tensorflow/tfjs", "Apache-2.0", _GOOGLE, {"dist/tf.min.js": "tfjs/tf.min.js"}),
            Library(
                "@tensorflow/tfjs-backend-wasm",
                "Apache-2.0",
                _GOOGLE,
                {f"dist/{name}": f"tfjs/{name}" for name in ("tf-backend-wasm.min.js", *_TF_WASM)},
            ),
        ),
        ("webgl", "wasm", "cpu"),
        ("tfjs/tf.min.js", "tfjs/tf-backend-wasm.min.js"),
    ),
    "tflite": Engine(
        "LiteRT.js",
        "run_litert.js",
        (
            Library(
                "@litertjs/core",
                "Apache-2.0",
                _GOOGLE,
                {
                    "dist/index.js": "litert/index.js",
                    **{f"wasm/{name}": f"litert/wasm/{name}" for name in _LITERT_WASM},
                },
            ),
            Library("@litertjs/wasm-utils", "Apache-2.0", _GOOGLE, {"dist/index.js": "litert/wasm-utils.js"}),
        ),
        ("wasm",),
        imports={"@litertjs/wasm-utils": "litert/wasm-utils.js"},
    ),
    "onnx": Engine(
        "ONNX Runtime Web",
        "run_ort.js",
        (
            Library(
                "onnxruntime-web",
                "MIT",
                _MICROSOFT,
                {
                    # Not by its own name: many servers do not know .mjs as JavaScript.
                    "dist/ort.wasm.bundle.min.mjs": "ort/ort.wasm.bundle.min.js",
                    "dist/ort-wasm-simd-threaded.wasm": "ort/ort-wasm-simd-threaded.wasm",
                },
            ),
        ),
        ("wasm",),
    ),
}


def write_page(
    folder: Path, file: str, weights: Sequence[str], format: str, source: Source, report: Report, web: Environment
) -> Sequence[str]:
    """file, weights: the model's, in the folder; web: the environment that holds the libraries.

    Returns the backends that the page offers, best first.
    """
    engine, npm = ENGINES[format], web.python.parent.parent / "npm"
    versions = _vendor(engine, npm, folder / "lib")
    (folder / "page").mkdir()
    for name in (*_COMMON, engine.runner):
        shutil.copyfile(_PAGES / name, folder / "page" / name)
    title = f"{engine.title} {versions[engine.libraries[0].package]}"
    description = _description(file, weights, engine, source, report)
    filled = {
        "TITLE": html.escape(source.config.name),
        "SUBTITLE": html.escape(
            f"version {source.config.version} · {report.original.format} → {format}, {report.precision} · {title}"
        ),
        "HEAD": _import_map(engine),
        "DESCRIPTION": _embedded(description),
        "SCRIPTS": "\n".join(f'<script src="{each}"></script>' for each in _scripts(engine)),
    }
    # In one go: what is filled in may look like a place to fill.
    text = re.sub(r"@([A-Z]+)@", lambda place: filled[place[1]], (_PAGES / "index.html").read_text())
    (folder / "index.html").write_text(text)
    return list(description["backends"])


def _scripts(engine: Engine) -> Sequence[str]:
    own = ("image.js", engine.runner, "page.js")
    return [*(f"lib/{name}" for name in engine.scripts), *(f"page/{name}" for name in own)]


def _import_map(engine: Engine) -> str:
    if not engine.imports:
        return ""
    imports = {name: f"./lib/{file}" for name, file in engine.imports.items()}
    return f'<script type="importmap">{_embedded({"imports": imports})}</script>'


def _embedded(value: Any) -> str:
    """As JSON within a <script>, which would end where a text has its end tag."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _description(file: str, weights: Sequence[str], engine: Engine, source: Source, report: Report) -> dict[str, Any]:
    toml = source.config.toml
    pictures = _takes_images(source, report)
    postprocess = toml.postprocess.resolve()._asdict() if toml.postprocess and pictures else None
    labels: Sequence[str] = ()
    if postprocess:
        postprocess["output"] = postprocess["output"] or report.outputs[0][0]
        labels = source.config.class_labels.get(postprocess["output"], ())
    failed = {run.runner.rpartition(" ")[2] for run in report.runs if run.problem}
    return {
        "file": file,
        "weights": list(weights),
        "signature": signature_of(source),
        "backends": [backend for backend in engine.backends if backend not in failed],
        "inputs": [_spec(spec) for spec in report.inputs],
        "outputs": [_spec(spec) for spec in report.outputs],
        "preprocess": toml.preprocess.resolve()._asdict() if toml.preprocess and pictures else None,
        "postprocess": postprocess,
        "labels": labels,
    }


def _takes_images(source: Source, report: Report) -> bool:
    """Whether [preprocess] makes this export's input: one image, one row."""
    toml = source.config.toml
    served = source.signature
    if toml.preprocess is None or incompatibility(
        toml.preprocess, toml.postprocess, served, source.config.class_labels, 0
    ):
        return False
    shape = report.inputs[0][2]
    return len(report.inputs) == 1 and shape is not None and shape[0] in (-1, 1)


def signature_of(source: Source) -> str:
    """What the converters call it, or what a file that was there already does."""
    return source.key if source.format == "tflite" else "serving_default"


def _spec(spec: Sequence[Any]) -> dict[str, Any]:
    name, datatype, shape = spec
    return {"name": name, "datatype": datatype, "shape": list(shape or ())}


def _vendor(engine: Engine, npm: Path, folder: Path) -> Mapping[str, str]:
    """The libraries' files, and lib/LICENCES.txt. Returns the packages' versions."""
    versions = {}
    told = ["What lies in this folder is of these packages of npm's, as they were published:", ""]
    for library in engine.libraries:
        package = npm / library.package
        versions[library.package] = json.loads((package / "package.json").read_text())["version"]
        told += [f"{library.package} {versions[library.package]}", f"  {library.licence}, {library.holder}"]
        for file, place in library.files.items():
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package / file, target)
            told.append(f"  {place}" + ("" if Path(file).name == target.name else f" (there {file})"))
    for licence in dict.fromkeys(library.licence for library in engine.libraries):
        text = (_PAGES / "licences" / f"{licence}.txt").read_text()
        told += ["", "=" * 80, f"{licence}", "=" * 80, "", text.strip("\n")]
    (folder / "LICENCES.txt").write_text("\n".join(told) + "\n")
    return versions
