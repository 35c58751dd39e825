"""Writes the page of an export: index.html and everything it loads, all in the export's folder."""

import html
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.environments.environment import Environment
from gateway.export.folder import ExportFolder
from gateway.export.report import Report
from gateway.export.source import Source
from gateway.repository.image_config import incompatibility

_PAGES = Path(__file__).parent / "pages"
_COMMON = ("page.css", "image.js", "page.js")


class Library(NamedTuple):
    """A package of npm. files: file of the package → path under lib/."""

    package: str
    license: str
    holder: str
    files: Mapping[str, str]


class PageEngine(NamedTuple):
    """The library that runs a format in a page.

    runner   our script that adapts it
    scripts  files of lib/ that <script> loads
    imports  for an import map: name → file of lib/
    """

    title: str
    runner: str
    libraries: tuple[Library, ...]
    backends: tuple[str, ...]
    scripts: tuple[str, ...] = ()
    imports: Mapping[str, str] = {}


_GOOGLE, _MICROSOFT = "Copyright Google LLC", "Copyright (c) Microsoft Corporation"
_TF_WASM = ("tfjs-backend-wasm.wasm", "tfjs-backend-wasm-simd.wasm")
# For browsers with relaxed SIMD, and for those without.
_LITERT_WASM = [f"litert_wasm_{kind}internal.{end}" for kind in ("", "compat_") for end in ("js", "wasm")]

ENGINES = {
    "tfjs": PageEngine(
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
    "tflite": PageEngine(
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
    "onnx": PageEngine(
        "ONNX Runtime Web",
        "run_ort.js",
        (
            Library(
                "onnxruntime-web",
                "MIT",
                _MICROSOFT,
                {
                    # Renamed, because many web servers do not serve .mjs as JavaScript.
                    "dist/ort.wasm.bundle.min.mjs": "ort/ort.wasm.bundle.min.js",
                    "dist/ort-wasm-simd-threaded.wasm": "ort/ort-wasm-simd-threaded.wasm",
                },
            ),
        ),
        ("wasm",),
    ),
}


def write_page(folder: ExportFolder, report: Report, web: Environment) -> Sequence[str]:
    """Write the page. web: the environment that contains the libraries.

    Returns the backends that the page offers, best first.
    """
    engine, npm = ENGINES[folder.model_format], web.python.parent.parent / "npm"
    versions = _copy_libraries(engine, npm, folder.path / "lib")
    (folder.path / "page").mkdir()
    for name in (*_COMMON, engine.runner):
        shutil.copyfile(_PAGES / name, folder.path / "page" / name)
    title = f"{engine.title} {versions[engine.libraries[0].package]}"
    description = _description(folder, engine, report)
    conversion = f"{report.original.format} → {folder.model_format}, {report.precision}"
    values = {
        "TITLE": html.escape(report.model),
        "SUBTITLE": html.escape(f"version {report.version} · {conversion} · {title}"),
        "HEAD": _import_map(engine),
        "DESCRIPTION": _embedded(description),
        "SCRIPTS": "\n".join(f'<script src="{each}"></script>' for each in _scripts(engine)),
    }
    # In a single pass, because a value may itself look like a placeholder.
    text = re.sub(r"@([A-Z]+)@", lambda placeholder: values[placeholder[1]], (_PAGES / "index.html").read_text())
    (folder.path / "index.html").write_text(text)
    return list(description["backends"])


def _scripts(engine: PageEngine) -> Sequence[str]:
    own = ("image.js", engine.runner, "page.js")
    return [*(f"lib/{name}" for name in engine.scripts), *(f"page/{name}" for name in own)]


def _import_map(engine: PageEngine) -> str:
    if not engine.imports:
        return ""
    imports = {name: f"./lib/{file}" for name, file in engine.imports.items()}
    return f'<script type="importmap">{_embedded({"imports": imports})}</script>'


def _embedded(value: Any) -> str:
    """Return JSON for a <script> element. "<" is escaped, because "</script>" in a text would end the element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _description(folder: ExportFolder, engine: PageEngine, report: Report) -> dict[str, Any]:
    source, toml = folder.source, folder.source.config.toml
    reads_images = _reads_images(source, report)
    postprocess = toml.postprocess.resolve()._asdict() if toml.postprocess and reads_images else None
    labels: Sequence[str] = ()
    if postprocess:
        postprocess["output"] = postprocess["output"] or report.outputs[0][0]
        labels = source.config.labels_of(source.signature).get(postprocess["output"], ())
    failed = {run.runner.rpartition(" ")[2] for run in report.runs if run.problem}
    return {
        "file": folder.model_name,
        "weights": list(folder.weights()),
        "signature": signature_of(source),
        "backends": [backend for backend in engine.backends if backend not in failed],
        "inputs": [_spec(spec) for spec in report.inputs],
        "outputs": [_spec(spec) for spec in report.outputs],
        "preprocess": toml.preprocess.resolve()._asdict() if toml.preprocess and reads_images else None,
        "postprocess": postprocess,
        "labels": labels,
    }


def _reads_images(source: Source, report: Report) -> bool:
    """Whether the export's input is one image in one row, as [preprocess] describes it."""
    toml = source.config.toml
    served = source.signature
    if toml.preprocess is None or incompatibility(
        toml.preprocess, toml.postprocess, served, source.config.declared_labels, 0
    ):
        return False
    shape = report.inputs[0][2]
    return len(report.inputs) == 1 and shape is not None and shape[0] in (-1, 1)


def signature_of(source: Source) -> str:
    """Return the name of the export's signature: the converters' name, or the file's own if it was not converted."""
    return source.key if source.format == "tflite" else "serving_default"


def _spec(spec: Sequence[Any]) -> dict[str, Any]:
    name, datatype, shape = spec
    return {"name": name, "datatype": datatype, "shape": list(shape or ())}


def _copy_libraries(engine: PageEngine, npm: Path, folder: Path) -> Mapping[str, str]:
    """Copy the libraries' files, and write LICENCES.txt. Returns the packages' versions."""
    versions = {}
    lines = ["The files in this folder are from these npm packages, unmodified:", ""]
    for library in engine.libraries:
        package = npm / library.package
        versions[library.package] = json.loads((package / "package.json").read_text())["version"]
        lines += [f"{library.package} {versions[library.package]}", f"  {library.license}, {library.holder}"]
        for file, path in library.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package / file, target)
            lines.append(f"  {path}" + ("" if Path(file).name == target.name else f" (there {file})"))
    for license_name in dict.fromkeys(library.license for library in engine.libraries):
        text = (_PAGES / "licences" / f"{license_name}.txt").read_text()
        lines += ["", "=" * 80, license_name, "=" * 80, "", text.strip("\n")]
    (folder / "LICENCES.txt").write_text("\n".join(lines) + "\n")
    return versions
