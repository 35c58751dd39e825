"""Reads runtime.toml files, and finds the installed runtimes and converters, without importing any of their code."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

import runtimes
from gateway.environments.errors import BrokenRuntime
from gateway.environments.tables import Table, read_table

log = logging.getLogger("environments")

GROUP = "modelport.runtimes"
ACCELERATORS = ("cpu", "cuda")
# Included with packages for CUDA, included with packages for the CPU, or not included.
GPU_IMAGE = ("cuda", "cpu", "none")
START_METHODS = ("fork", "spawn")  # as Python's multiprocessing calls them
PLATFORMS = ("linux-x86_64", "linux-aarch64", "macos-arm64", "macos-x86_64")


@dataclass(frozen=True)
class Format:
    """One kind of artifact that a runtime reads.

    platform        its name in model metadata
    files           globs, relative to a version's folder; one match is enough
    zip_entry       glob of an entry that the file, a zip archive, must contain
    head            regular expression for the first bytes of the file, as Latin-1
    beside          globs that must each match a file in the same folder
    artifact        what `load` gets: the "file" that matched, or the "folder" that contains it
    triton_backend  Triton's backend for it; `platform` is then Triton's name as well. "" if Triton has none
    export_format   its name in gateway/export/routes.py; "" if it cannot be exported
    undeclared      whether its artifacts declare neither datatypes nor shapes, so that a description of them helps
    by_name         whether it is only read for models that name this runtime, because another one usually reads it
    """

    platform: str
    files: tuple[str, ...]
    zip_entry: str | None = None
    beside: tuple[str, ...] = ()
    artifact: str = "file"
    triton_backend: str = ""
    export_format: str = ""
    undeclared: bool = False
    head: str = ""
    by_name: bool = False


@dataclass(frozen=True)
class Runtime:
    """A folder with runtime.toml and runtime.py or, for a converter, convert.py.

    pythons               PEP 440 specifiers of the Python versions for which its packages exist
    platforms             names from PLATFORMS; empty: any
    requirements          accelerator → what pip installs
    without_dependencies  what pip installs after that, without dependencies
    npm                   npm packages to install, NAME@VERSION
    prepare               a script next to runtime.toml that the environment's interpreter runs after the installation
    fallback_for          the runtime that has precedence over this one for files that both read, if it is available
    download_mb           accelerator → the size of the download
    start_method          one of START_METHODS: whether workers may be copies of a process that has imported runtime.py,
                          or each has to be a program that imports it
    env                   environment variables of its workers; a value may contain {threads}
    licenses              of the downloaded packages, for people
    gpu_image             one of GPU_IMAGE: how Dockerfile.gpu includes it
    model_code            whether its artifacts are programs of their authors, which the operator must allow. An
                          artifact of another runtime beside one of them has precedence
    model_requirements    a file next to the artifact that names further packages; "" if its models name none
    extras                packages that models may ask for by name: name → accelerator → what pip installs, and
                          "without" → the runtime's packages that these replace, "pythons" → specifiers for which these
                          exist, if they do not for all of the runtime's
    base                  the runtime that this one adds a model's packages to; "" for one that is installed
    optional_inputs       whether its models can do without inputs that config.pbtxt declares optional
    triton_switches       parameters of config.pbtxt that are true or false → their names in [parameters] of model.toml
    """

    name: str
    title: str
    folder: Path
    pythons: str
    platforms: tuple[str, ...] = ()
    requirements: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    download_mb: Mapping[str, float] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[Format, ...] = ()
    without_dependencies: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    prepare: str = ""
    fallback_for: str = ""
    licenses: str = ""
    gpu_image: str = "cuda"
    model_code: bool = False
    model_requirements: str = ""
    extras: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    start_method: str = "fork"
    base: str = ""
    optional_inputs: bool = False
    triton_switches: Mapping[str, str] = field(default_factory=dict)

    @property
    def installed_name(self) -> str:
        """The name under which it, or the runtime that it is based on, is installed."""
        return self.base or self.name

    def backend(self, platform: str) -> str:
        """Return Triton's backend for this format, or else the runtime's name."""
        backends = (form.triton_backend for form in self.formats if form.platform == platform)
        return next(filter(None, backends), self.installed_name)

    def export_format(self, platform: str) -> str:
        """Return the format's name in gateway/export/routes.py; "" if it cannot be exported."""
        return next((form.export_format for form in self.formats if form.platform == platform), "")

    def named(self) -> "Runtime":
        """Return the runtime as it is for models that name it: it reads all of its formats."""
        return replace(self, formats=tuple(replace(form, by_name=False) for form in self.formats))

    def accelerator(self, requested: str) -> str:
        """Return the requested accelerator, or cpu if only that has packages: LiteRT runs on the CPU next to GPUs."""
        return requested if self.requirements.get(requested) or not self.requirements.get("cpu") else "cpu"


def converters() -> dict[str, Runtime]:
    """Return the converters of exports by the names of their environments (export-tf, …). All are modelport's own."""
    folders = sorted((Path(runtimes.__file__).parent / "converters").glob("*/runtime.toml"))
    names = {f"export-{file.parent.name}": file.parent for file in folders}
    return {name: read_runtime(folder, name, ("convert.py", "runtime.py")) for name, folder in names.items()}


def discover() -> dict[str, Runtime]:
    """Return every runtime that an installed distribution declares, by name; modelport's own first.

    A broken one is skipped with a warning, because it must not prevent the others from loading.
    """
    found: dict[str, Runtime] = {}
    for point in _ours_first(entry_points(group=GROUP)):
        try:
            if point.name in found:
                raise BrokenRuntime(f"the name is taken by the runtime in {found[point.name].folder}")
            found[point.name] = read_runtime(_package_folder(point.module), point.name)
        except BrokenRuntime as error:
            log.warning("the runtime '%s' is skipped: %s", point.name, error)
        except Exception:
            log.warning("the runtime '%s' is skipped: it could not be read", point.name, exc_info=True)
    return found


def of_gpu_image(included: str) -> list[str]:
    """Return the names of the runtimes that Dockerfile.gpu includes in this way; see GPU_IMAGE."""
    return [name for name, runtime in discover().items() if runtime.gpu_image == included]


def read_runtime(folder: Path, name: str, code: tuple[str, ...] = ("runtime.py",)) -> Runtime:
    """Read the runtime in this folder. Raises BrokenRuntime."""
    table = read_table(folder / "runtime.toml")
    if not any((folder / file).is_file() for file in code):
        raise BrokenRuntime(f"{folder} has a runtime.toml but no {' or '.join(code)}")
    table.allow(
        "title", "pythons", "platforms", "requirements", "without_dependencies", "npm", "prepare", "download_mb",
        "env", "formats", "fallback_for", "licenses", "gpu_image", "model_code", "model_requirements",
        "extras", "start_method", "optional_inputs", "triton_switches",
    )  # fmt: skip
    requirements, sizes, env = table.table("requirements"), table.table("download_mb"), table.table("env")
    extras, switches = table.table("extras"), table.table("triton_switches")
    sizes.allow(*ACCELERATORS)
    return Runtime(
        name,
        table.text("title"),
        folder,
        table.specifiers("pythons"),
        table.texts("platforms", among=PLATFORMS),
        _packages(requirements),
        {accelerator: sizes.number(accelerator) for accelerator in sizes.values},
        {variable: env.text(variable) for variable in env.values},
        tuple(_format(each) for each in table.tables("formats")),
        table.texts("without_dependencies"),
        table.texts("npm"),
        _script(table, folder) if "prepare" in table.values else "",
        _optional(table, "fallback_for"),
        _optional(table, "licenses"),
        table.text("gpu_image", "cuda", among=GPU_IMAGE),
        table.flag("model_code"),
        _optional(table, "model_requirements"),
        {name: _packages(extras.table(name), "without", "pythons") for name in extras.values},
        table.text("start_method", "fork", among=START_METHODS),
        optional_inputs=table.flag("optional_inputs"),
        triton_switches={name: switches.text(name) for name in switches.values},
    )


def _packages(table: Table, *others: str) -> dict[str, tuple[str, ...]]:
    table.allow(*ACCELERATORS, *others)
    return {key: table.texts(key) for key in table.values}


def _optional(table: Table, key: str) -> str:
    return table.text(key) if key in table.values else ""


def _expression(table: Table, key: str) -> str:
    text = _optional(table, key)
    try:
        re.compile(text)
    except re.error:
        raise table.wrong(key, "a regular expression") from None
    return text


def _script(table: Table, folder: Path) -> str:
    name = table.text("prepare")
    if Path(name).name != name or not (folder / name).is_file():
        raise table.wrong("prepare", "the name of a file in the same folder")
    return name


def _format(table: Table) -> Format:
    table.allow(
        "platform", "files", "zip_entry", "beside", "artifact", "triton_backend", "export_format", "undeclared", "head",
        "by_name",
    )  # fmt: skip
    files = table.texts("files")
    if not files:
        raise table.wrong("files", 'a list of file patterns, such as ["*.onnx"]')
    return Format(
        table.text("platform"),
        files,
        table.text("zip_entry") if "zip_entry" in table.values else None,
        table.texts("beside"),
        table.text("artifact", "file", among=("file", "folder")),
        _optional(table, "triton_backend"),
        _optional(table, "export_format"),
        table.flag("undeclared"),
        _expression(table, "head"),
        table.flag("by_name"),
    )


def _ours_first(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    return sorted(points, key=lambda point: point.dist is None or point.dist.name != "modelport")


def _package_folder(package: str) -> Path:
    """Return a package's folder. Raises BrokenRuntime.

    importlib.util.find_spec would import the parents of a dotted name, so each parent's folder is searched instead.
    """
    top, *beneath = package.split(".")
    spec = find_spec(top)
    for name in beneath:
        if spec is not None:
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations or ()))
    if spec is None or not spec.submodule_search_locations:
        raise BrokenRuntime(f"its entry point names '{package}', which is not an installed package")
    folders = [Path(location) for location in spec.submodule_search_locations]
    return next((folder for folder in folders if (folder / "runtime.toml").is_file()), folders[0])
