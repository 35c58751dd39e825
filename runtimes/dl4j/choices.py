"""What a user may choose for a model, in [parameters] of its model.toml."""

from typing import Any, Dict, NamedTuple

from runtimes.checks import parameter

PARAMETERS = ("allow_unverified", "normalizer", "convolution_1d")


class Choices(NamedTuple):
    """
    allow_unverified  layers are translated, too, whose numbers nothing confirms
    normalizer        a normalizer that the file holds is applied
    convolution_1d    the version that wrote the file, where it takes one to read Convolution1DLayer's weights
    """

    allow_unverified: bool = False
    normalizer: bool = True
    convolution_1d: str = ""


NONE = Choices()


def choices(parameters: Dict[str, Any]) -> Choices:
    """Raises LoadError for a value that is none of them."""
    return Choices(
        parameter(parameters, "allow_unverified", (False, True)),
        parameter(parameters, "normalizer", (True, False)),
        parameter(parameters, "convolution_1d", ("", "beta7", "M1")),
    )
