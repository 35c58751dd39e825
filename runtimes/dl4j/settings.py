"""The fields of a layer, a vertex or a preprocessor in configuration.json."""

from typing import Any, Dict, NamedTuple, NoReturn, Optional, Sequence, Tuple

from runtimes.contract import LoadError

_REQUIRED = object()
# DL4J's own fields are Java ints. A larger number comes from a file that was made to exhaust memory.
_MAX_INT = (1 << 31) - 1

_DL4J_PACKAGES = ("org.deeplearning4j.", "org.nd4j.")


class Tagged(NamedTuple):
    """An object together with its class.

    kind    name of the class: without its package if it is DL4J's, with it otherwise
    legacy  whether the name is a tag, as in files written before 1.0.0-beta3
    """

    kind: str
    fields: Dict[str, Any]
    legacy: bool = False


def tagged(value: Any) -> Optional[Tagged]:
    """Return an object with its class, or None if the value is no such object."""
    if not isinstance(value, dict):
        return None
    name = value.get("@class")
    if isinstance(name, str):
        is_dl4js = name.startswith(_DL4J_PACKAGES) and ".regressiontest." not in name
        return Tagged(name.rsplit(".", 1)[-1] if is_dl4js else name, value)
    if len(value) == 1:
        ((tag, fields),) = value.items()
        if isinstance(fields, dict):
            return Tagged(tag, fields, True)
    return None


class Settings:
    """Typed access to fields. All methods raise LoadError, with `where` naming the layer, for an invalid field.

    The case of field names is ignored, because it differs between DL4J's versions ("nin", "nIn").
    """

    def __init__(self, where: str, fields: Dict[str, Any]) -> None:
        self.where = where
        self._fields = {name.lower(): value for name, value in fields.items()}
        if len(self._fields) != len(fields):
            self.refuse("it has two fields whose names differ only in case")

    def refuse(self, why: str) -> NoReturn:
        raise LoadError("%s: %s" % (self.where, why))

    def get(self, name: str) -> Any:
        """Return a field as it is, or None if it is absent."""
        return self._fields.get(name.lower())

    def integer(self, name: str, default: Any = _REQUIRED, minimum: int = 0) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= _MAX_INT:
            self._invalid(name, value, "an integer of at least %d" % minimum)
        return value

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e38:
            self._invalid(name, value, "a number")
        return float(value)

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        # null is not the same as absent: Java would read it as false, whatever the default is.
        value = self._fields.get(name.lower(), default)
        if value is _REQUIRED:
            self.refuse("its field '%s' is missing" % name)
        if not isinstance(value, bool):
            self._invalid(name, value, "true or false")
        return value

    def choice(self, name: str, choices: Sequence[str], default: Any = _REQUIRED) -> str:
        value = self._value(name, default)
        if value not in choices:
            self._invalid(name, value, " or ".join(choices))
        return value

    def channels_last(self, name: str, first: str, last: str) -> bool:
        """Whether channels are last. Files from before DL4J supported a second format do not have the field."""
        return self.choice(name, (first, last), first) == last

    def integers(self, name: str, count: int, default: Any = _REQUIRED, minimum: int = 0) -> Tuple[int, ...]:
        """Return `count` integers. A single one in the file applies to all of them."""
        value = self._value(name, default)
        numbers = [value] * count if isinstance(value, int) else value
        if isinstance(numbers, (list, tuple)) and len(numbers) == 1:
            numbers = list(numbers) * count
        if not self._are_integers(numbers, minimum) or len(numbers) != count:
            self._invalid(name, value, "%d integers of at least %d" % (count, minimum))
        return tuple(numbers)

    def list_of_integers(self, name: str) -> Optional[Tuple[int, ...]]:
        """Return a list of any length, or None if the field is absent."""
        value = self.get(name)
        if value is None:
            return None
        if not self._are_integers(value, -_MAX_INT):
            self._invalid(name, value, "a list of integers")
        return tuple(value)

    def tagged(self, name: str) -> Tagged:
        found = tagged(self.get(name))
        if found is None:
            self._invalid(name, self.get(name), "an object with its class")
        return found

    def _value(self, name: str, default: Any) -> Any:
        value = self.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            self.refuse("its field '%s' is missing" % name)
        return default

    def _are_integers(self, numbers: Any, minimum: int) -> bool:
        return isinstance(numbers, (list, tuple)) and all(
            isinstance(number, int) and not isinstance(number, bool) and minimum <= number <= _MAX_INT
            for number in numbers
        )

    def _invalid(self, name: str, value: Any, expected: str) -> NoReturn:
        self.refuse("its field '%s' is %.60r, but must be %s" % (name, value, expected))
