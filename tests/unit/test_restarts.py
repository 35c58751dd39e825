"""Back-off and thread counts: the small numbers that decide how a machine fares."""

import pytest

from gateway.repository.cores import threads_per_instance
from gateway.repository.served import restart_delay_s


def test_the_first_restart_is_at_once_and_the_next_ones_back_off() -> None:
    delays = [restart_delay_s(deaths, was_ready=False) for deaths in range(1, 14)]
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert delays[-1] == 60


def test_what_has_served_comes_back_soon_since_requests_wait_for_it() -> None:
    assert max(restart_delay_s(deaths, was_ready=True) for deaths in range(1, 100)) == 2


@pytest.mark.parametrize(("cores", "instances", "threads"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (4, 0, 4)])
def test_instances_together_do_not_oversubscribe_the_cores(cores: int, instances: int, threads: int) -> None:
    assert threads_per_instance(cores, instances) == threads
