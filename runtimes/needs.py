"""Which inputs the outputs of a signature need, for models that were saved with more than their predictions."""

from typing import Collection, Dict, List, Sequence, Tuple

from .checks import wanted_outputs
from .contract import InvalidInput, Signature

# Of different sets of inputs. Each is compared with each other one.
_MAX_SETS = 1000


def with_needs(signature: Signature, needs: Dict[str, Collection[str]]) -> Signature:
    """Return the signature with what each of its outputs needs, if they need different inputs.

    needs  output → the inputs that it depends on

    If an output needs all inputs of another one and more, as a loss needs all that the prediction needs and the labels
    too, then a request may leave out what only such outputs need.
    """
    sets = {spec.name: frozenset(needs[spec.name]) for spec in signature.outputs if spec.name in needs}
    different = set(sets.values())
    if len(different) > _MAX_SETS:
        return signature
    smallest = [each for each in different if each and not any(other and other < each for other in different)]
    always = frozenset().union(*smallest)
    optional = tuple(spec.name for spec in signature.inputs if spec.name not in always)
    if len(different) < 2 and not optional:
        return signature
    ordered = {found: tuple(spec.name for spec in signature.inputs if spec.name in found) for found in different}
    return signature._replace(optional=optional, needs={name: ordered[found] for name, found in sets.items()})


def chosen(signature: Signature, outputs: Sequence[str], given: Collection[str]) -> Tuple[Sequence[str], List[str]]:
    """Return the outputs that a request gets, and the inputs that they need.

    outputs  that it names; none for all that can be computed from what is given
    given    the names of its inputs

    Raises InvalidInput if an output does not exist, or if an input is missing.
    """
    names: Sequence[str] = signature.outputs_from(given)
    if outputs:
        names = wanted_outputs(outputs, [spec.name for spec in signature.outputs])
    needed = signature.needed_for(names) if names else []
    for name in needed if outputs else signature.needed_for():
        if name not in given:
            raise InvalidInput("input '%s' is missing" % name)
    return names, needed
