"""The fields of a layer, a vertex or a preprocessor, as configuration.json has them."""

from typing import Any, Dict, NamedTuple, NoReturn, Optional, Sequence, Tuple

from runtimes.contract import LoadError

_REQUIRED = object()
# No layer that runs anywhere is larger; what is would be made to fill memory.
_MAX_INT = (1 << 31) - 1

OURS = ("org.deeplearning4j.", "org.nd4j.")


class Tagged(NamedTuple):
    """An object whose class the file tells: the class's name without its package, or with it where it is not DL4J's.

    legacy  the name is a tag of the files before 1.0.0-beta3
    """

    kind: str
    fields: Dict[str, Any]
    legacy: bool = False


def tagged(value: Any) -> Optional[Tagged]:
    """None for what is no such object."""
    if not isinstance(value, dict):
        return None
    name = value.get("@class")
    if isinstance(name, str):
        own = name.startswith(OURS) and ".regressiontest." not in name
        return Tagged(name.rsplit(".", 1)[-1] if own else name, value)
    if len(value) == 1:
        ((tag, fields),) = value.items()
        if isinstance(fields, dict):
            return Tagged(tag, fields, True)
    return None


class Settings:
    """`where` names the layer in what is refused. Case is ignored: DL4J's versions differ in it ("nin", "nIn")."""

    def __init__(self, where: str, fields: Dict[str, Any]) -> None:
        self.where = where
        self._fields = {name.lower(): value for name, value in fields.items()}
        if len(self._fields) != len(fields):
            self.refuse("it has two fields whose names differ in case alone")

    def refuse(self, why: str) -> NoReturn:
        raise LoadError("%s: %s" % (self.where, why))

    def get(self, name: str) -> Any:
        """As it is; None where it is absent."""
        return self._fields.get(name.lower())

    def integer(self, name: str, default: Any = _REQUIRED, least: int = 0) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MAX_INT:
            self._wrong(name, value, "a whole number of %d or more" % least)
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e38:
            self._wrong(name, value, "a number")
        return float(value)

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        # null is none of the defaults: Java would read false.
        value = self._fields.get(name.lower(), default)
        if value is _REQUIRED:
            self.refuse("its field '%s' is missing" % name)
        if not isinstance(value, bool):
            self._wrong(name, value, "true or false")
        return value

    def choice(self, name: str, choices: Sequence[str], default: Any = _REQUIRED) -> str:
        value = self._value(name, default)
        if value not in choices:
            self._wrong(name, value, " or ".join(choices))
        return value

    def flag_of_format(self, name: str, first: str, last: str) -> bool:
        """Whether channels are last. DL4J wrote no format before it knew a second."""
        return self.choice(name, (first, last), first) == last

    def integers(self, name: str, count: int, default: Any = _REQUIRED, least: int = 0) -> Tuple[int, ...]:
        """As many as are wanted; one alone stands for all of them."""
        value = self._value(name, default)
        numbers = [value] * count if isinstance(value, int) else value
        if isinstance(numbers, (list, tuple)) and len(numbers) == 1:
            numbers = list(numbers) * count
        if not self._are_integers(numbers, least) or len(numbers) != count:
            self._wrong(name, value, "%d whole numbers of %d or more" % (count, least))
        return tuple(numbers)

    def list_of_integers(self, name: str) -> Optional[Tuple[int, ...]]:
        """However many; None where it is absent."""
        value = self.get(name)
        if value is None:
            return None
        if not self._are_integers(value, -_MAX_INT):
            self._wrong(name, value, "whole numbers")
        return tuple(value)

    def tagged(self, name: str) -> Tagged:
        found = tagged(self.get(name))
        if found is None:
            self._wrong(name, self.get(name), "an object with its class")
        return found

    def _value(self, name: str, default: Any) -> Any:
        value = self.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            self.refuse("its field '%s' is missing" % name)
        return default

    def _are_integers(self, numbers: Any, least: int) -> bool:
        return isinstance(numbers, (list, tuple)) and all(
            isinstance(number, int) and not isinstance(number, bool) and least <= number <= _MAX_INT
            for number in numbers
        )

    def _wrong(self, name: str, value: Any, wanted: str) -> NoReturn:
        self.refuse("its field '%s' is %.60r, where %s is wanted" % (name, value, wanted))
