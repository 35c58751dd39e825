"""Classes whose values come from TOML files, environment variables and flags, and are checked: settings, model.toml.

This is the part of pydantic's interface that they need, with the same names. Importing pydantic itself would take
10 MiB of the supervisor's memory, and 100 ms of each start.
"""

import dataclasses
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Self,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

_WORDS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


class ValidationError(Exception):
    """A value that is not allowed. The message is a clause, such as "input should be a valid string".

    location  the keys and indices that lead to the value
    keys      those that exist, if the last key of `location` does not
    missing   whether there is no value at all
    """

    def __init__(
        self,
        reason: str,
        value: Any = None,
        location: tuple[str | int, ...] = (),
        keys: Collection[str] = (),
        missing: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.value, self.location, self.keys, self.missing = reason, value, location, keys, missing

    def within(self, part: str | int) -> "ValidationError":
        """Return the same error as seen from the table or list in which `part` has the value."""
        return ValidationError(self.reason, self.value, (part, *self.location), self.keys, self.missing)


class FieldError(Exception):
    """What is wrong with a field that was checked against others."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


class Rule(NamedTuple):
    """What is allowed, besides the type. `before` and `after` return the value, or raise ValueError."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    before: Callable[[Any], Any] | None = None
    after: Callable[[Any], Any] | None = None

    def check(self, value: Any) -> None:
        """Raises ValueError. NaN is outside of all limits."""
        if self.ge is not None and not value >= self.ge:
            raise ValueError(f"input should be greater than or equal to {self.ge}")
        if self.gt is not None and not value > self.gt:
            raise ValueError(f"input should be greater than {self.gt}")
        if self.le is not None and not value <= self.le:
            raise ValueError(f"input should be less than or equal to {self.le}")
        if self.lt is not None and not value < self.lt:
            raise ValueError(f"input should be less than {self.lt}")
        if self.min_length is not None and len(value) < self.min_length:
            raise ValueError(f"its length should be at least {self.min_length}")
        if self.max_length is not None and len(value) > self.max_length:
            raise ValueError(f"its length should be at most {self.max_length}")


class FieldInfo(NamedTuple):
    """alias: another key with the same meaning."""

    annotation: Any
    rules: tuple[Rule, ...]
    default: Any
    is_required: bool
    description: str
    alias: str


def Field(
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Any = dataclasses.MISSING,
    description: str = "",
    alias: str = "",
    **rule: Any,
) -> Any:
    """Return a field of a Checked class. `rule` has the attributes of a Rule."""
    metadata = {"rule": Rule(**rule), "description": description, "alias": alias}
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Checked:
    """Makes its subclasses frozen dataclasses. `model_validate` checks values, the constructor does not.

    Attributes with a leading underscore are no keys.
    """

    model_fields: ClassVar[Mapping[str, FieldInfo]]

    def __init_subclass__(cls) -> None:
        fields = dataclasses.fields(dataclasses.dataclass(frozen=True, kw_only=True)(cls))  # type: ignore[arg-type]
        hints = get_type_hints(cls, include_extras=True)
        cls.model_fields = {each.name: _info(each, hints[each.name]) for each in fields if each.name[0] != "_"}

    @property
    def model_fields_set(self) -> frozenset[str]:
        """The names of the fields that `model_validate` was given."""
        given: frozenset[str] = self.__dict__.get("_fields_set", frozenset())
        return given

    def model_copy(self, update: Mapping[str, Any]) -> Self:
        return dataclasses.replace(self, **update)  # type: ignore[type-var]

    def model_dump(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.model_fields}

    def check_together(self) -> None:
        """Check fields against each other. Raises ValueError about the whole table, or FieldError."""

    @classmethod
    def model_validate(cls, values: Any) -> Self:
        """Return an instance with these values. Raises ValidationError for the first that is not allowed."""
        if not isinstance(values, Mapping):
            raise ValidationError("input should be a table", values)
        unknown, converted = dict(values), {}
        for name, info in cls.model_fields.items():
            key = info.alias if info.alias in unknown and name not in unknown else name
            if key in unknown:
                converted[name] = _convert_part(unknown.pop(key), info.annotation, key, info.rules)
            elif info.is_required:
                raise ValidationError("it is missing", location=(name,), missing=True)
        for key in unknown:
            raise ValidationError("there is no such key", location=(key,), keys=cls.model_fields)
        checked = cls(**converted)
        checked.__dict__["_fields_set"] = frozenset(converted)
        try:
            checked.check_together()
        except ValueError as error:
            raise ValidationError(str(error), values) from None
        except FieldError as error:
            raise ValidationError(error.reason, values[error.field], (error.field,)) from None
        return checked


def _info(field: "dataclasses.Field[Any]", annotation: Any) -> FieldInfo:
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    given = field.metadata
    rules = (given["rule"],) if "rule" in given else ()
    return FieldInfo(annotation, rules, field.default, required, given.get("description", ""), given.get("alias", ""))


def _convert_part(value: Any, kind: Any, part: str | int, rules: tuple[Rule, ...] = ()) -> Any:
    """Convert and check the value of a key of a table, or of an index of a list. Raises ValidationError."""
    try:
        return _with_rules(value, kind, rules)
    except ValidationError as error:
        raise error.within(part) from None


def _convert(value: Any, kind: Any) -> Any:
    """Convert a value to an annotation's type, and check its rules. Raises ValidationError."""
    if isinstance(kind, type) and issubclass(kind, Checked):
        return kind.model_validate(value)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _with_rules(value, arguments[0], arguments[1:])
    if origin is types.UnionType:  # only with None
        return None if value is None else _convert(value, arguments[0])
    if origin is tuple:
        return _to_tuple(value, arguments)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValidationError("input should be a table", value)
        return {key: _convert_part(each, arguments[1], key) for key, each in value.items()}
    try:
        return _to_choice(value, arguments) if origin is Literal else _SCALARS[kind](value)
    except ValueError as error:
        raise ValidationError(str(error), value) from None


def _with_rules(value: Any, kind: Any, rules: tuple[Rule, ...]) -> Any:
    try:
        converted = value
        for rule in rules:
            converted = rule.before(converted) if rule.before else converted
        converted = _convert(converted, kind)
        for rule in rules:
            if converted is not None:
                rule.check(converted)
            converted = rule.after(converted) if rule.after else converted
        return converted
    except ValueError as error:
        raise ValidationError(str(error), value) from None


def _to_tuple(value: Any, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValidationError("input should be a list", value)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValidationError(f"input should have {len(kinds)} values", value)
    return tuple(_convert_part(each, kind, index) for index, (each, kind) in enumerate(zip(value, kinds, strict=True)))


def _to_choice(value: Any, choices: tuple[str, ...]) -> str:
    for choice in choices:
        if value == choice:
            return choice
    *most, last = map(repr, choices)
    raise ValueError(f"input should be {', '.join(most)} or {last}")


def _to_bool(value: Any) -> bool:
    """Convert a boolean, 0, 1, or a word."""
    word = _WORDS.get(str(value).lower()) if isinstance(value, str | int) else None
    if word is None:
        raise ValueError("input should be a valid boolean")
    return word


def _to_int(value: Any) -> int:
    """Convert an integer, its text, or a float without a fraction."""
    try:
        if isinstance(value, float) and not value.is_integer():
            raise TypeError
        return int(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("input should be a valid integer") from None


def _to_float(value: Any) -> float:
    """Convert a number or its text."""
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("input should be a valid number") from None


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("input should be a valid string")
    return value


def _to_path(value: Any) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("input should be a path")
    return Path(value)


_SCALARS: Mapping[Any, Callable[[Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    Path: _to_path,
    Any: lambda value: value,
}
