"""What a quota may state, and how it is written."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from gateway.domain.quota import UNLIMITED, Quota, quota_from_json


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"requests_per_second": 0.5},
        {"requests_per_second": 10, "burst": 50, "in_flight": 4},
        {"bytes_per_second": 1e6, "compute_seconds_per_minute": 30},
    ],
)
def test_a_quota_has_what_was_stated(raw: dict[str, Any]) -> None:
    quota = quota_from_json(json.loads(json.dumps(raw)))
    assert {name: value for name, value in asdict(quota).items() if value is not None} == raw
    assert (quota == UNLIMITED) == (not raw)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"requests": 1}, "there is no limit 'requests'; the limits are requests_per_second"),
        ({"requests_per_second": 0}, "requests_per_second must be a number above 0"),
        ({"requests_per_second": -1.5}, "requests_per_second must be a number above 0"),
        ({"requests_per_second": "10"}, "requests_per_second must be a number above 0"),
        ({"bytes_per_second": float("nan")}, "bytes_per_second must be a number above 0"),
        ({"bytes_per_second": float("inf")}, "bytes_per_second must be a number above 0"),
        ({"in_flight": 1.5}, "in_flight must be a whole number above 0"),
        ({"in_flight": True}, "in_flight must be a whole number above 0"),
        ({"burst": 5}, "burst needs requests_per_second"),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(raw: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}"):
        quota_from_json(raw)


@pytest.mark.parametrize(
    ("quota", "requests"),
    [
        (Quota(requests_per_second=0.1), 1),
        (Quota(requests_per_second=20), 20),
        (Quota(requests_per_second=20, burst=3), 3),
    ],
)
def test_how_many_requests_may_arrive_at_once(quota: Quota, requests: int) -> None:
    assert quota.largest_burst == requests
