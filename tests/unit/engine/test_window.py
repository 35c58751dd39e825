from gateway.engine.window import Window


def window(rows: int = 64, batch_rows: int = 32) -> Window:
    made = Window()
    made.resize(rows, batch_rows, [])
    return made


def fill(room: Window, *rows: int) -> int:
    """Add requests with these rows, with ids from 0, until there is no room. Return how many were added."""
    for number, each in enumerate(rows):
        if not room.has_room(each):
            return number
        room.add(number, each)
    return len(rows)


def test_requests_of_equal_size_fill_two_batches_and_no_third() -> None:
    for rows in range(1, 33):
        assert fill(window(), *[rows] * 100) == 2 * (32 // rows)


def test_requests_of_any_size_are_two_batches() -> None:
    assert fill(window(), 20, 13, 12, 19, 1) == 4
    assert fill(window(), 30, 30, 2, 2, 1) == 4


def test_a_request_leaves_room_in_its_batch() -> None:
    room = window()
    assert fill(room, 20, 20, 12, 12, 1) == 4
    room.remove(1, 20)
    assert (room.rows, room.has_room(20), room.has_room(21)) == (44, True, False)
    room.remove(3, 12)
    assert room.has_room(32)


def test_a_request_with_more_rows_than_a_batch_takes_an_empty_one() -> None:
    assert fill(window(), 40, 40, 1) == 2
    assert fill(window(), 1, 40, 31, 1) == 3


def test_there_is_room_while_all_that_is_under_way_may_be_running() -> None:
    room = window()
    assert fill(room, 16, 20, 16, 12) == 4
    room.remove(0, 16)
    room.remove(1, 20)  # 16 and 12 rows are left, which may run together
    assert room.has_room(25)
    room.add(4, 25)
    assert not room.has_room(25)


def test_requests_that_run_alone_share_all_of_the_room() -> None:
    for batch_rows in (0, 1, 64, 100):
        assert fill(window(64, batch_rows), *[1] * 100) == 64
    assert fill(window(2, 1), 5, 5) == 1
    assert fill(window(2, 1), 1, 1, 1) == 2


def test_there_is_no_room_before_a_worker_is_connected_and_after_it_was_lost() -> None:
    room = Window()
    assert not room.has_room(1)
    assert fill(window(0, 32), 1) == 0


def test_what_is_under_way_counts_when_the_window_changes() -> None:
    room = window()
    assert fill(room, 20, 20) == 2
    room.resize(2, 0, [(0, 1), (1, 1)])
    assert (room.rows, room.has_room(1)) == (2, False)
    room.remove(0, 1)
    assert room.has_room(1)


def test_requests_beyond_the_room_are_counted_but_take_none() -> None:
    room = window()
    assert fill(room, 32, 32) == 2
    room.add(9, 8)
    room.remove(0, 32)
    assert (room.rows, room.has_room(32)) == (40, True)
    room.remove(9, 8)
    assert room.rows == 32
