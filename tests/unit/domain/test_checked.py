"""Classes whose values are checked: what is converted, what is refused, and where the error is."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from gateway.domain.checked import Checked, Field, FieldError, Rule, ValidationError


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("it must be even")
    return value


class _Inner(Checked):
    low: int = Field(ge=0)
    high: int = 10

    def check_together(self) -> None:
        if self.low > self.high:
            raise FieldError("low", "it must not be above high")
        if self.high == 13:
            raise ValueError("13 is not allowed anywhere")


class _Outer(Checked):
    count: int = Field(1, gt=0, le=8, description="how many")
    share: float = Field(0.5, ge=0, lt=1)
    on: bool = False
    word: str = Field("", min_length=1, max_length=3)
    path: Path | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, str] = (0, "")
    evens: tuple[Annotated[int, Rule(after=_even)], ...] = Field((), before=lambda value: value or [2])
    numbers: Mapping[str, float] = Field(default_factory=dict)
    inner: _Inner | None = None
    inners: tuple[_Inner, ...] = ()
    anything: Any = None
    color: str = Field("", alias="colour")
    _hidden: bool = False


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("count", 2, 2),
        ("count", "2", 2),
        ("count", 2.0, 2),
        ("share", "1e-1", 0.1),
        ("share", 0, 0.0),
        ("on", "Yes", True),
        ("on", "off", False),
        ("on", 1, True),
        ("path", "/a", Path("/a")),
        ("path", None, None),
        ("pair", [1, "x"], (1, "x")),
        ("evens", ["4", 6], (4, 6)),
        ("evens", [], (2,)),
        ("numbers", {"x": 1}, {"x": 1.0}),
        ("inner", {"low": 3}, _Inner(low=3)),
        ("inners", [{"low": 3}, {"low": 4, "high": 5}], (_Inner(low=3), _Inner(low=4, high=5))),
        ("anything", {"x": [1]}, {"x": [1]}),
        ("color", "red", "red"),
    ],
)
def test_values_are_converted(key: str, given: Any, value: Any) -> None:
    converted = getattr(_Outer.model_validate({key: given}), key)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("given", "location", "says"),
    [
        ({"count": 0}, ("count",), "greater than 0"),
        ({"count": 9}, ("count",), "less than or equal to 8"),
        ({"count": 1.5}, ("count",), "a valid integer"),
        ({"count": "1" * 5000}, ("count",), "a valid integer"),
        ({"count": None}, ("count",), "a valid integer"),
        ({"share": "nan"}, ("share",), "greater than or equal to 0"),
        ({"share": 1}, ("share",), "less than 1"),
        ({"share": [0]}, ("share",), "a valid number"),
        ({"on": 2}, ("on",), "a valid boolean"),
        ({"on": "maybe"}, ("on",), "a valid boolean"),
        ({"word": ""}, ("word",), "at least 1"),
        ({"word": "long"}, ("word",), "at most 3"),
        ({"word": 1}, ("word",), "a valid string"),
        ({"path": 1}, ("path",), "a path"),
        ({"kind": "c"}, ("kind",), "'a' or 'b'"),
        ({"kind": ["a"]}, ("kind",), "'a' or 'b'"),
        ({"pair": [1]}, ("pair",), "2 values"),
        ({"pair": "1x"}, ("pair",), "a list"),
        ({"pair": ["x", "y"]}, ("pair", 0), "a valid integer"),
        ({"evens": [2, 3]}, ("evens", 1), "it must be even"),
        ({"numbers": {"x": 1, "y": "z"}}, ("numbers", "y"), "a valid number"),
        ({"numbers": [1]}, ("numbers",), "a table"),
        ({"inner": 1}, ("inner",), "a table"),
        ({"inner": {"low": -1}}, ("inner", "low"), "greater than or equal to 0"),
        ({"inner": {"low": 11}}, ("inner", "low"), "not be above high"),
        ({"inners": [{"low": 1}, {"low": 1, "high": 13}]}, ("inners", 1), "13 is not allowed"),
    ],
)
def test_errors_have_the_location_and_the_value(
    given: dict[str, Any], location: tuple[str | int, ...], says: str
) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        _Outer.model_validate(given)
    assert caught.value.location == location
    value: Any = given
    for part in location:
        value = value[part]
    assert caught.value.value is value


def test_a_missing_and_an_unknown_key() -> None:
    with pytest.raises(ValidationError) as missing:
        _Outer.model_validate({"inner": {}})
    assert missing.value.missing
    assert missing.value.location == ("inner", "low")
    for key in ("nosuch", "_hidden"):
        with pytest.raises(ValidationError) as unknown:
            _Outer.model_validate({"inner": {"low": 1, key: 1}})
        assert unknown.value.location == ("inner", key)
        assert set(unknown.value.keys) == {"low", "high"}
    with pytest.raises(ValidationError) as both:
        _Outer.model_validate({"color": "", "colour": ""})
    assert both.value.location == ("colour",)


def test_instances_are_frozen_and_know_what_they_were_given() -> None:
    outer = _Outer.model_validate({"count": 1, "colour": "x"})
    assert outer.model_fields_set == {"count", "color"}
    assert outer == _Outer(color="x")
    changed = outer.model_copy({"count": 3, "_hidden": True})
    assert (changed.count, changed.color, changed._hidden, outer.count) == (3, "x", True, 1)
    with pytest.raises(FrozenInstanceError):
        outer.count = 2  # type: ignore[misc]
    assert _Outer.model_fields["count"].description == "how many"
    assert "_hidden" not in _Outer.model_fields
