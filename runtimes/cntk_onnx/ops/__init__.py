"""How each CNTK operation is translated: name → a function from a TranslationContext to one or several Values."""

from typing import Callable, Dict, List, Union

from ..context import TranslationContext
from ..values import Value
from . import convolution, elementwise, linear, pooling, recurrent, reduction, regions, sequences, shaping

Translator = Callable[[TranslationContext], Union[Value, List[Value]]]

REGISTRY: Dict[str, Translator] = {}
for _family in (convolution, elementwise, linear, pooling, recurrent, reduction, regions, sequences, shaping):
    REGISTRY.update(_family.TRANSLATORS)
