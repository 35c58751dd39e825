"""`modelport sbom` and `modelport runtimes sbom`: print bills of materials, as CycloneDX 1.6 JSON."""

import sys
from pathlib import Path

from gateway.environments import built
from gateway.environments.environment import EnvironmentUnavailable, Locator
from gateway.environments.runtime import converters, discover

_NO_LIBRARY = "bills of materials need cyclonedx-python-lib, which is missing: pip install 'modelport[sbom]'"


def gateway_sbom(output: Path | None) -> int:
    """Write the bill of the gateway and of everything that it needs. Returns the exit code."""
    try:
        from gateway.commands import bill
    except ImportError:
        return _failed(_NO_LIBRARY)
    return _write(bill.of_the_gateway(), output)


def environments_sbom(name: str, locator: Locator, output: Path | None) -> int:
    """Write the bill of a runtime's environment or, with the name "", of all that are built. Returns the exit code."""
    known = {**discover(), **converters()}
    of_models = [each for each in built.of_models(locator.home, known) if name in ("", each.runtime.name)]
    if name and name not in known and not of_models:
        return _failed(f"there is no runtime '{name}': installed are {', '.join(sorted(known))}")
    try:
        from gateway.commands import bill
    except ImportError:
        return _failed(_NO_LIBRARY)
    described = list(of_models)
    for each in known if not name else {name} & set(known):
        try:
            environment = locator.locate(known[each])
        except EnvironmentUnavailable as error:
            if name:
                return _failed(str(error))
            continue
        if bill.describes(environment):
            described.append(environment)
    if name and not described:
        return _failed(f"the environment of {name} is not built by modelport: run 'modelport runtimes install {name}'")
    return _write(bill.of_environment(described[0]) if name else bill.of_environments(described), output)


def _write(text: str, output: Path | None) -> int:
    if output is None:
        print(text)
        return 0
    try:
        output.write_text(f"{text}\n")
    except OSError as error:
        return _failed(f"{output} cannot be written: {error.strerror}")
    return 0


def _failed(sentence: str) -> int:
    print(f"modelport: {sentence}", file=sys.stderr)
    return 1
