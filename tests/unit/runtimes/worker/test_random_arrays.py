"""Random arrays have the ranges, the moments and the independence that their callers rely on."""

import numpy as np
import pytest

from runtimes.worker.random_arrays import Random

SIZE = (200, 500)


def test_uniform_numbers_fill_their_range_evenly() -> None:
    numbers = Random(0).uniform(-2, 6, SIZE)
    assert numbers.shape == SIZE
    assert numbers.min() >= -2
    assert numbers.max() < 6
    counts, _ = np.histogram(numbers, bins=16, range=(-2, 6))
    assert counts == pytest.approx(numbers.size / 16, rel=0.05)


def test_integers_fill_their_range_evenly() -> None:
    numbers = Random(1).randint(-3, 4, SIZE)
    values, counts = np.unique(numbers, return_counts=True)
    assert values.tolist() == list(range(-3, 4))
    assert counts == pytest.approx(numbers.size / 7, rel=0.05)
    assert set(Random(1).randint(5, 6, [8])) == {5}


def test_normal_numbers_have_the_moments_of_a_normal_distribution() -> None:
    numbers = Random(2).standard_normal(SIZE)
    assert [np.mean(numbers**power) for power in (1, 2, 3, 4)] == pytest.approx([0, 1, 0, 3], abs=0.1)


def test_arrays_differ_from_each_other_and_depend_on_the_seed_only() -> None:
    random = Random(3)
    drawn = [random.uniform(0, 1, SIZE), random.uniform(0, 1, SIZE), Random(4).uniform(0, 1, SIZE)]
    assert np.array_equal(drawn[0], Random(3).uniform(0, 1, SIZE))
    correlations = np.corrcoef([array.ravel() for array in drawn])
    assert np.abs(correlations - np.eye(3)).max() < 0.02
    neighbors = np.corrcoef(drawn[0].ravel()[:-1], drawn[0].ravel()[1:])
    assert abs(neighbors[0, 1]) < 0.02


@pytest.mark.parametrize("size", [(), (0,), (3, 0)])
def test_scalars_and_empty_arrays(size: tuple[int, ...]) -> None:
    for array in (Random(0).uniform(0, 1, size), Random(0).randint(0, 2, size), Random(0).standard_normal(size)):
        assert array.shape == size


def test_a_scalar_is_an_array_too() -> None:
    """Frameworks refuse numpy's scalars, of which arithmetic makes some where arrays have no dimension."""
    random = Random(1)
    for drawn in (random.uniform(0, 1, ()), random.randint(0, 2, []), random.standard_normal(())):
        assert isinstance(drawn.astype(np.int64), np.ndarray)
