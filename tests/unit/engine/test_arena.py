"""A front's shared memory: blocks are free when, and only when, nothing refers to them any more."""

import mmap
import os
import time
from threading import Thread
from typing import Any

import numpy as np
import pytest

from gateway.engine.arena import Arena
from runtimes.worker.mapping import map_arena

PAGE = mmap.PAGESIZE


@pytest.fixture
def arena() -> Arena:
    return Arena(64 * PAGE)


def test_a_block_is_free_once_its_last_view_is_deleted(arena: Arena) -> None:
    block = arena.allocate(3 * PAGE + 1)
    assert block is not None
    part = block[PAGE : 2 * PAGE]
    array = np.frombuffer(part, np.uint8)
    del block, part
    assert arena.free_bytes == 60 * PAGE
    array[:] = 7
    del array
    assert arena.free_bytes == 64 * PAGE


def test_adjacent_free_ranges_are_merged(arena: Arena) -> None:
    blocks = [arena.allocate(16 * PAGE) for _ in range(4)]
    assert arena.allocate(1) is None
    for index in (1, 3, 0, 2):
        blocks[index] = None
    whole = arena.allocate(64 * PAGE)
    assert whole is not None
    assert arena.offset_of(whole) == 0


def test_a_block_gets_the_lowest_free_offset(arena: Arena) -> None:
    first, second, third = (arena.allocate(2 * PAGE) for _ in range(3))
    assert [arena.offset_of(block) for block in (first, second, third)] == [0, 2 * PAGE, 4 * PAGE]  # type: ignore[arg-type]
    del first
    assert arena.offset_of(arena.allocate(PAGE)) == 0  # type: ignore[arg-type]
    del second, third


def test_a_block_may_be_released_during_an_allocation(arena: Arena) -> None:
    """Garbage collection may release it, and any allocation of an object may start a collection."""
    kept = [arena.allocate(2 * PAGE), arena.allocate(2 * PAGE)]

    class Free(list[tuple[int, int]]):
        def __setitem__(self, index: Any, value: Any) -> None:
            kept[0] = None
            super().__setitem__(index, value)

    arena._free.ranges = Free(arena._free.ranges)
    taken = arena.allocate(PAGE)
    assert taken is not None
    assert arena.offset_of(taken) == 4 * PAGE
    assert arena.free_bytes == 61 * PAGE


def test_bytes_outside_the_arena_have_no_offset(arena: Arena) -> None:
    assert arena.offset_of(b"x" * 100) is None
    assert arena.offset_of(b"") is None
    block = arena.allocate(100)
    assert block is not None
    assert arena.offset_of(block[60:]) == 60


def test_a_worker_maps_the_arena_read_only(arena: Arena) -> None:
    arena.allocate(PAGE)
    block = arena.allocate(5)
    assert block is not None
    block[:] = b"hello"
    seen = map_arena(os.dup(arena.descriptor), arena.size)
    assert seen is not None
    offset = arena.offset_of(block)
    assert offset is not None
    assert bytes(seen[offset : offset + 5]) == b"hello"
    assert seen.readonly


def test_the_descriptor_for_workers_cannot_be_mapped_for_writing(arena: Arena) -> None:
    with pytest.raises(PermissionError):
        mmap.mmap(arena.descriptor, arena.size)


def test_a_worker_that_cannot_map_the_arena_logs_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert map_arena(-1, PAGE) is None
    assert "inputs come through the socket" in capsys.readouterr().out


def test_memory_of_a_peak_is_returned_to_the_system(arena: Arena) -> None:
    def used() -> int:
        return os.fstat(arena.descriptor).st_blocks * 512

    arena.retained_bytes = 8 * PAGE
    low, high = arena.allocate(8 * PAGE), arena.allocate(8 * PAGE)
    assert low is not None
    assert high is not None
    low[:] = high[:] = b"x" * 8 * PAGE
    assert used() == 16 * PAGE
    del low, high
    assert used() == 8 * PAGE


def test_blocks_released_by_another_thread_are_free_at_once(arena: Arena) -> None:
    blocks = [arena.allocate(16 * PAGE)]

    def release() -> None:
        blocks.clear()

    thread = Thread(target=release)
    thread.start()
    thread.join()
    assert arena.free_bytes == 64 * PAGE
    whole = arena.allocate(64 * PAGE)
    assert whole is not None


def test_threads_that_allocate_and_release_at_the_same_time_share_no_byte(arena: Arena) -> None:
    wrong: list[int] = []

    def use(mark: int) -> None:
        for number in range(300):
            block = arena.allocate((1 + (number + mark) % 8) * PAGE)
            if block is not None:
                block[:] = bytes([mark]) * len(block)
                time.sleep(0)  # another thread runs
                if bytes(block) != bytes([mark]) * len(block):
                    wrong.append(mark)

    threads = [Thread(target=use, args=(mark,)) for mark in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert arena.free_bytes == 64 * PAGE
