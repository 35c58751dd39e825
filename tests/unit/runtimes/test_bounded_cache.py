from runtimes.bounded_cache import BoundedCache


def test_where_one_more_comes_only_the_oldest_goes() -> None:
    cache: BoundedCache[int, str] = BoundedCache(3)
    for number in range(5):
        cache.put(number, str(number))
    assert len(cache) == 3
    assert [cache.entries.get(number) for number in range(5)] == [None, None, "2", "3", "4"]


def test_what_is_put_again_replaces_its_value_and_pushes_nothing_out() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.put("a", 3)
    assert (cache.entries.get("a"), cache.entries.get("b"), len(cache)) == (3, 2, 2)
    cache.put("c", 4)  # "a" is still the oldest
    assert (cache.entries.get("a"), cache.entries.get("b"), cache.entries.get("c")) == (None, 2, 4)


def test_a_client_whose_requests_are_all_different_keeps_it_at_its_limit() -> None:
    cache: BoundedCache[int, int] = BoundedCache(100)
    for number in range(1000):
        cache.put(number, number)
        assert len(cache) == min(number + 1, 100)
    assert [cache.entries.get(number) for number in range(900, 1000)] == list(range(900, 1000))
