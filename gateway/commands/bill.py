"""Bills of materials of what is installed, made with cyclonedx-python-lib, which is optional: modelport[sbom]."""

import base64
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from gateway import __version__
from gateway.console.vendored import Library, libraries
from gateway.environments import distributions, steps
from gateway.environments.environment import Environment
from gateway.environments.lockfile import Target, marker_variables

# A longer License field is a license's text, not its name.
_LONGEST_NAME = 100


def of_the_gateway() -> str:
    """Return the bill of modelport and of everything that it needs, directly or not."""
    root, *others = distributions.of_the_gateway()
    owner = _component(root, ComponentType.APPLICATION)
    packages: dict[str, Component] = {canonicalize_name(each.name): _component(each) for each in others}
    bom = _bom(owner, packages.values())
    vendored = [_npm_component(each) for each in libraries()]
    bom.components.update(vendored)
    _relate(bom, owner, distributions.requirements(root, root.metadata.get_all("Provides-Extra") or ()), packages)
    for each in others:
        _relate(bom, packages[canonicalize_name(each.name)], distributions.requirements(each), packages)
    bom.register_dependency(owner, vendored)
    return _text(bom)


def describes(environment: Environment) -> bool:
    """Whether it is a virtual environment that modelport, perhaps for an image, has built."""
    return environment.ready and (_folder(environment) / "pyvenv.cfg").is_file()


def of_environment(environment: Environment) -> str:
    """Return the bill of an environment that `describes` accepts."""
    owner, packages = _owner(environment), _packages(environment, "")
    bom = _bom(owner, packages.values())
    _relate_all(bom, owner, environment, packages)
    return _text(bom)


def of_environments(environments: Iterable[Environment]) -> str:
    """Return one bill for several environments: a component each, which contains its packages."""
    name = "modelport-environments"
    subject = Component(type=ComponentType.APPLICATION, name=name, version=__version__, bom_ref=name)
    bom = _bom(subject, ())
    for environment in environments:
        owner, packages = _owner(environment), _packages(environment, f"{environment.runtime.name}:")
        owner.components.update(packages.values())
        bom.components.add(owner)
        _relate_all(bom, owner, environment, packages)
    bom.register_dependency(subject, bom.components)
    return _text(bom)


def _bom(subject: Component, components: Iterable[Component]) -> Bom:
    bom = Bom(components=components)
    bom.metadata.component = subject
    bom.metadata.tools.components.add(this_component())
    return bom


def _text(bom: Bom) -> str:
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return text


def _folder(environment: Environment) -> Path:
    return environment.folder or environment.python.parent.parent


def _owner(environment: Environment) -> Component:
    name = f"modelport-{environment.runtime.name}"
    facts = {"accelerator": environment.accelerator, "locked": str(environment.locked).lower()}
    return Component(
        type=ComponentType.APPLICATION,
        name=name,
        version=__version__,
        bom_ref=name,
        description=environment.runtime.title,
        properties=[Property(name=f"modelport:{key}", value=value) for key, value in facts.items()],
    )


def _packages(environment: Environment, prefix: str) -> dict[str, Component]:
    """Return name → component: the interpreter and what pip and npm installed. prefix: of references in the bill."""
    hashes = environment.hashes
    found: dict[str, Component] = {
        canonicalize_name(each.name): _component(
            each, prefix=prefix, sha256=hashes.get(canonicalize_name(each.name), "")
        )
        for each in steps.distributions_in(_folder(environment))
    }
    python = ".".join(map(str, environment.interpreter.version))
    others = [PackageURL("generic", name=environment.interpreter.implementation, version=python)]
    for package in environment.runtime.npm:
        name, _, version = package.rpartition("@")
        namespace, _, name = name.rpartition("/")
        others.append(PackageURL("npm", namespace or None, name, version))
    for purl in others:
        kind = ComponentType.PLATFORM if purl.type == "generic" else ComponentType.LIBRARY
        found[f"{purl.type}:{purl.namespace}/{purl.name}"] = Component(
            type=kind, group=purl.namespace, name=purl.name, version=purl.version, purl=purl, bom_ref=f"{prefix}{purl}"
        )
    return found


def _component(
    each: Distribution, kind: ComponentType = ComponentType.LIBRARY, prefix: str = "", sha256: str = ""
) -> Component:
    purl = PackageURL("pypi", name=canonicalize_name(each.name), version=each.version)
    return Component(
        type=kind,
        name=each.name,
        version=each.version,
        purl=purl,
        bom_ref=f"{prefix}{purl}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else (),
        licenses=_licenses(each),
    )


def _npm_component(each: Library) -> Component:
    """Of a library that is part of the console."""
    purl = PackageURL("npm", name=each.package, version=each.version)
    declared = LicenseFactory().make_from_string(each.license, license_acknowledgement=LicenseAcknowledgement.DECLARED)
    digest = base64.b64decode(each.integrity.removeprefix("sha512-")).hex()
    return Component(
        type=ComponentType.LIBRARY,
        name=each.package,
        version=each.version,
        purl=purl,
        bom_ref=str(purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_512, content=digest)],
        licenses=[declared],
    )


def _licenses(each: Distribution) -> list[License]:
    """Return what its metadata declares: an expression, else a short name, else its classifiers."""
    factory, declared = LicenseFactory(), LicenseAcknowledgement.DECLARED
    fields = (each.metadata.get_all(field) or [""] for field in ("License-Expression", "License"))
    name = next((field[0].strip() for field in fields if field[0].strip()), "")
    if name and name.upper() != "UNKNOWN" and "\n" not in name and len(name) <= _LONGEST_NAME:
        return [factory.make_from_string(name, license_acknowledgement=declared)]
    classifiers = [text for text in each.metadata.get_all("Classifier") or () if text.startswith("License ::")]
    names = sorted({text.rpartition(" :: ")[2] for text in classifiers})
    return [factory.make_with_name(name, acknowledgement=declared) for name in names]


def _relate_all(bom: Bom, owner: Component, environment: Environment, packages: Mapping[str, Component]) -> None:
    interpreter = environment.interpreter
    target = Target(environment.accelerator, interpreter.minor, interpreter.platform)
    bom.register_dependency(owner, packages.values())
    for each in steps.distributions_in(_folder(environment)):
        needed = distributions.requirements(each, variables=marker_variables(target))
        _relate(bom, packages[canonicalize_name(each.name)], needed, packages)


def _relate(bom: Bom, component: Component, needed: Iterable[Requirement], packages: Mapping[str, Component]) -> None:
    names = {canonicalize_name(requirement.name) for requirement in needed}
    bom.register_dependency(component, [packages[name] for name in sorted(names) if name in packages])
