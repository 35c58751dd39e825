"""What a user can choose for a model, in [parameters] of its model.toml."""

from typing import Any, Dict, NamedTuple

from runtimes.checks import parameter

PARAMETERS = ("allow_unverified", "normalizer", "convolution_1d")


class Choices(NamedTuple):
    """
    allow_unverified  also serve layers whose numbers nothing confirms
    normalizer        apply the normalizer in the file, if there is one
    convolution_1d    the version that wrote the file, "beta7" or "M1", where Convolution1DLayer's weights depend on
                      it; "" if the user did not say
    """

    allow_unverified: bool = False
    normalizer: bool = True
    convolution_1d: str = ""


NONE = Choices()


def choices(parameters: Dict[str, Any]) -> Choices:
    """Read [parameters]. Raises LoadError for an invalid value."""
    return Choices(
        parameter(parameters, "allow_unverified", (False, True)),
        parameter(parameters, "normalizer", (True, False)),
        parameter(parameters, "convolution_1d", ("", "beta7", "M1")),
    )
