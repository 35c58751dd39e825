"""The arenas of a front: a worker can read the inputs of its own model and of no other."""

import gc
import os
import re

import pytest

from gateway.engine import arenas as arenas_module
from gateway.engine.arena import MIN_ARENA_BYTES
from gateway.engine.arenas import Arenas
from runtimes.worker.mapping import map_arena

SIZE = 1 << 20
ASKED = MIN_ARENA_BYTES


def test_the_worker_of_one_model_cannot_read_the_inputs_of_another() -> None:
    arenas = Arenas(SIZE)
    ours, theirs = arenas.of("ours"), arenas.of("theirs")
    assert ours is not None
    assert theirs is not None
    block = arenas.allocate(ASKED, "theirs")
    assert block is not None
    block[:6] = b"secret"
    mapped = [map_arena(os.dup(each.descriptor), each.size) for each in (ours, theirs)]
    found = [re.search(b"secret", each) is not None for each in mapped if each is not None]
    assert found == [False, True]


def test_a_body_whose_model_is_unknown_is_in_no_arena() -> None:
    arenas = Arenas(SIZE)
    arenas.of("known")
    for model in ("", "unknown"):
        assert arenas.allocate(ASKED, model) is None
    assert arenas.allocate(ASKED - 1, "known") is None
    assert arenas.allocate(ASKED, "known") is not None


def test_a_model_that_is_gone_takes_its_arena_with_it() -> None:
    arenas = Arenas(SIZE)
    arena = arenas.of("gone")
    assert arena is not None
    descriptor, block = arena.descriptor, arenas.allocate(ASKED, "gone")
    arenas.keep({"other"})
    del arena
    gc.collect()
    os.fstat(descriptor)  # as long as there is a block
    del block
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_without_descriptors_inputs_go_through_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> int:
        raise OSError(24, "too many open files")

    arenas = Arenas(SIZE)
    monkeypatch.setattr(os, "memfd_create", none_left)
    assert arenas.of("m") is None
    assert arenas.allocate(ASKED, "m") is None


def test_arenas_share_what_they_keep_of_freed_memory() -> None:
    arenas = Arenas(SIZE)
    made = [arenas.of(f"m{number}") for number in range(4)]
    kept = {each.retained_bytes for each in made if each is not None}
    assert kept == {arenas_module._RETAINED_BYTES // 4}
    arenas.keep({"m0"})
    assert made[0] is not None
    assert made[0].retained_bytes == arenas_module._RETAINED_BYTES
