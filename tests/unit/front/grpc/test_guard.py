"""What the guard in front of the native server passes on, replaces and refuses."""

import gzip
import random
import time
import zlib

import hpack
import pytest

from gateway.errors import InvalidRequest, ModelportError, Overloaded, TooLarge
from gateway.front.base.limits import Limits
from gateway.front.grpc import guard as guard_module
from gateway.front.grpc.guard import PREFACE, Guard, Policy, Violation
from gateway.front.grpc.messages import Refusals
from tests.support.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FULL,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call,
    frame,
    head,
    many,
    message,
    refused,
    reset,
)  # fmt: skip

LIMIT = 100_000


def frames_of(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """The type, flags, stream and payload of each frame."""
    found = []
    while data:
        end = 9 + int.from_bytes(data[:3], "big")
        assert len(data) >= end
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found


def content(data: bytes, stream: int = 1) -> tuple[bytes, bool]:
    """A stream's content, and whether it has ended."""
    of_stream = [
        (flags, payload) for kind, flags, number, payload in frames_of(data) if (kind, number) == (DATA, stream)
    ]
    ends = [flags & END_STREAM for flags, _ in of_stream]
    assert not any(ends[:-1])
    return b"".join(payload for _, payload in of_stream), bool(ends and ends[-1])


def in_frames(payload: bytes, stream: int = 1, size: int = FULL) -> bytes:
    """A stream's whole content."""
    ends = range(size, len(payload) + size, size)
    return b"".join(frame(DATA, END_STREAM * (end == ends[-1]), stream, payload[end - size : end]) for end in ends)


class Reserved:
    """The reservations of a guard, all together; `limit` bytes at most."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit, self.size, self.open = limit, 0, 0

    def reservation(self) -> "Reservation":
        self.open += 1
        return Reservation(self)


class Reservation:
    def __init__(self, every: Reserved) -> None:
        self._every, self._size = every, 0

    def reserve(self, size: int, is_input: bool = True) -> None:
        if self._every.size + size > self._every.limit:
            raise Overloaded("too much")
        self._every.size += size
        self._size += size

    def release(self, size: int) -> None:
        self._every.size -= size
        self._size -= size

    def close(self, error: BaseException | None = None) -> None:
        self._every.size -= self._size
        self._every.open -= 1

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


REFUSALS = Refusals()


def opened(reserved: Reserved | None = None, field: bytes = b"", limits: Limits | None = None) -> Guard:
    """A guard that has seen the beginning of a connection."""
    limits = limits or Limits(binary_bytes=LIMIT)
    guard = Guard(Policy(limits, REFUSALS, (reserved or Reserved()).reservation), field)
    begin = PREFACE + frame(SETTINGS)
    assert guard.feed(begin) == begin
    return guard


def refusal(data: bytes, stream: int = 1) -> ModelportError:
    """The error that the handler of the stream's first message gets, which must be the whole content."""
    got, ended = content(data, stream)
    assert ended
    assert int.from_bytes(got[1:5], "big") == len(got) - 5
    with pytest.raises(ModelportError) as caught:
        REFUSALS.check(got[5:])
    return caught.value


HEAD = head(1)
ACCEPTED = [
    message(b""),
    message(b"small"),
    message(bytes(LIMIT)),
    message(b"one") + message(bytes(FULL * 3)) + message(b"two"),
    message(gzip.compress(bytes(LIMIT)), compressed=True),
    message(gzip.compress(random.Random(0).randbytes(LIMIT)[: LIMIT // 2]), compressed=True),
    message(zlib.compress(bytes(LIMIT)), compressed=True),
    message(gzip.compress(b"a" * 50) + gzip.compress(b"b" * 50), compressed=True),
]


@pytest.mark.parametrize("frame_size", [1, 3, 7, 1000, FULL])
@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_messages_within_the_limit_arrive_as_they_were_sent(number: int, frame_size: int) -> None:
    payload, reserved = ACCEPTED[number], Reserved()
    if len(payload) // frame_size > 20_000:
        payload = message(bytes(5000))
    sent = HEAD + in_frames(payload, size=frame_size) + frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0")
    chance = random.Random(number)
    guard, passed, at = opened(reserved), b"", 0
    while at < len(sent):
        size = chance.choice((1, 8, 9, 10, 14, 100, 70_000))
        passed += guard.feed(sent[at : at + size])
        at += size
    assert content(passed) == (payload, True)
    assert [each for each in frames_of(passed) if each[0] != DATA] == [
        each for each in frames_of(sent) if each[0] != DATA
    ]
    assert (reserved.size, reserved.open, guard.has_messages) == (0, 0, False)


def test_what_most_clients_send_is_passed_on_as_it_is() -> None:
    sent = HEAD + frame(DATA, END_STREAM, 1, message(b"one")) + frame(PING, 0, 0, bytes(8))
    guard = opened()
    assert guard.feed(sent) is sent


@pytest.mark.parametrize("frame_size", [1, 4, 5, 6, FULL])
def test_a_message_over_the_limit_is_refused_by_its_prefix(frame_size: int) -> None:
    guard, reserved = opened(), Reserved()
    sent = HEAD + in_frames(message(bytes(3 * FULL), length=LIMIT + 1), size=frame_size) + frame(PING, 0, 0, bytes(8))
    passed = guard.feed(sent)
    error = refusal(passed)
    assert (type(error), str(error)) == (TooLarge, f"the message has {LIMIT + 1} bytes, over the limit of {LIMIT}")
    assert [each[0] for each in frames_of(passed)] == [HEADERS, DATA, PING]
    other = head(3) + frame(DATA, END_STREAM, 3, message(b"other"))
    assert guard.feed(other) == other
    assert reserved.open == 0


def test_messages_whose_length_never_arrives_are_not_kept_without_limit() -> None:
    guard = opened()
    begun = b"".join(frame(DATA, 0, 2 * number + 1, b"\0") for number in range(guard_module._MAX_PREFIXES + 1))
    with pytest.raises(Violation, match="without their length"):
        guard.feed(begun)


def test_earlier_messages_of_a_stream_arrive_before_one_that_is_refused() -> None:
    sent = HEAD + frame(DATA, 0, 1, message(b"good") + message(b"bad", length=1 << 30))
    got, ended = content(opened().feed(sent))
    assert ended
    assert got.startswith(message(b"good"))
    with pytest.raises(TooLarge):
        REFUSALS.check(got[len(message(b"good")) + 5 :])


def test_clients_cannot_forge_refusals() -> None:
    forged = Refusals().message(TooLarge("forged"))
    REFUSALS.check(forged)


def test_messages_are_reserved_from_their_prefix_on() -> None:
    reserved = Reserved(limit=150_000)
    guard = opened(reserved)
    guard.feed(HEAD + frame(DATA, 0, 1, message(bytes(1000), length=LIMIT)))
    assert reserved.size == LIMIT
    second = head(3) + frame(DATA, 0, 3, message(bytes(1000), length=LIMIT))
    error = refusal(guard.feed(second), 3)
    assert (type(error), str(error)) == (Overloaded, "too much")
    small = head(5) + frame(DATA, END_STREAM, 5, message(b"small"))
    assert guard.feed(small) == small
    guard.feed(frame(RST_STREAM, 0, 1, bytes(4)))
    assert (reserved.size, reserved.open) == (0, 0)
    guard.feed(head(7) + frame(DATA, 0, 7, message(bytes(10), length=LIMIT)))
    assert reserved.size == LIMIT
    guard.close()
    assert (reserved.size, reserved.open) == (0, 0)


def test_a_message_that_decompresses_to_too_much_is_refused() -> None:
    bomb = message(gzip.compress(bytes(30 * LIMIT)), compressed=True)
    error = refusal(opened().feed(HEAD + in_frames(bomb, size=100)))
    assert (type(error), str(error)) == (TooLarge, f"the message decompresses to more than the limit of {LIMIT} bytes")
    members = message(gzip.compress(bytes(LIMIT)) * 2, compressed=True)
    assert isinstance(refusal(opened().feed(HEAD + in_frames(members))), TooLarge)


def test_a_large_compressed_message_is_cut_off_where_it_exceeds_the_limit() -> None:
    limits = Limits(binary_bytes=4 << 20)
    noise = random.Random(0).randbytes(2 << 20)
    bomb = message(gzip.compress(noise + bytes(64 << 20), 1), compressed=True)
    got, ended = content(opened(limits=limits).feed(HEAD + in_frames(bomb)))
    assert ended
    assert bomb.startswith(got)
    assert 1 << 20 < len(got) < len(bomb)
    stream = zlib.decompressobj(31)
    assert len(stream.decompress(got[5:])) <= 4 << 20


def test_compressed_bytes_that_are_neither_gzip_nor_deflate_are_refused() -> None:
    error = refusal(opened().feed(HEAD + in_frames(message(bytes(1000), compressed=True))))
    assert (type(error), str(error)) == (InvalidRequest, "the compressed message is neither gzip nor deflate")


def test_a_message_that_arrives_too_slowly_is_cut_off() -> None:
    limits = Limits(binary_bytes=LIMIT, header_timeout_s=0, min_body_rate=1 << 60)
    reserved = Reserved()
    guard = opened(reserved, limits=limits)
    guard.feed(HEAD + frame(DATA, 0, 1, message(b"part", length=1000)))
    started = time.monotonic()
    while time.monotonic() == started:
        pass  # the clock must go on
    assert frames_of(guard.cut_slow()) == [(DATA, END_STREAM, 1, b"")]
    assert (guard.has_messages, reserved.open) == (False, 0)
    assert guard.feed(frame(DATA, END_STREAM, 1, b"the rest")) == b""
    patient = opened()
    patient.feed(HEAD + frame(DATA, 0, 1, message(b"part", length=1000)))
    assert patient.cut_slow() == b""


def test_each_call_gets_the_field() -> None:
    field = b"\x10\x06x-peer\x0242"
    encoder = hpack.Encoder()

    def block() -> bytes:
        encoded: bytes = encoder.encode([(":method", "POST"), ("content-type", "application/grpc"), ("tenant", "a")])
        return encoded

    first, second = block(), block()
    sent = frame(HEADERS, END_HEADERS, 1, first) + frame(DATA, END_STREAM, 1, message(b"one"))
    sent += frame(HEADERS, 0, 3, second[:1]) + frame(CONTINUATION, END_HEADERS, 3, second[1:])
    found = frames_of(opened(field=field).feed(sent))
    assert [(kind, flags, stream) for kind, flags, stream, _ in found] == [
        (HEADERS, 0, 1),
        (CONTINUATION, END_HEADERS, 1),
        (DATA, END_STREAM, 1),
        (HEADERS, 0, 3),
        (CONTINUATION, 0, 3),
        (CONTINUATION, END_HEADERS, 3),
    ]
    decoder = hpack.Decoder()
    for stream in (1, 3):
        headers = b"".join(payload for kind, _, number, payload in found if number == stream and kind != DATA)
        assert decoder.decode(headers)[1:] == [("content-type", "application/grpc"), ("tenant", "a"), ("x-peer", "42")]


VIOLATIONS = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\n\r\n",
    "a frame over the length": frame(DATA, 0, 1, bytes(FULL + 1)),
    "a reserved bit, by which streams could be confused": frame(DATA, 0, 1 << 31 | 1, message(b"")),
    "padding, by which messages could be confused": frame(DATA, PADDED, 1, b"\1" + message(b"") + b"\0"),
    "long headers": frame(HEADERS, 0, 1, bytes(FULL)) + frame(CONTINUATION, 0, 1, bytes(FULL)) * 4,
    "many continuations": frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 1) * 32,
    "pings": frame(PING, 0, 0, bytes(8)) * 1100,
    "settings": frame(SETTINGS) * 1100,
    "priorities": many(1100, lambda stream: frame(PRIORITY, 0, stream, bytes(5))),
    "empty frames": frame(DATA, 0, 1) * 1100,
    "rapid reset": many(1100, lambda stream: head(stream) + reset(stream)),
    "refused messages": many(1100, refused),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_floods_and_violations_end_the_connection(name: str) -> None:
    guard = Guard(Policy(Limits(binary_bytes=LIMIT), REFUSALS, Reserved().reservation))
    begin = b"" if name == "HTTP/1.1" else PREFACE + frame(SETTINGS)
    with pytest.raises(Violation):
        guard.feed(begin + VIOLATIONS[name])


HONEST = {
    "calls": many(3000, call),
    "calls with pings": many(3000, lambda stream: call(stream) + frame(PING, 0, 0, bytes(8)) + frame(SETTINGS, 1)),
    "cancelled calls": many(3000, lambda stream: call(stream) + reset(stream)),
    "window updates": frame(WINDOW_UPDATE, 0, 0, b"\0\0\1\0") * 3000,
    "refused messages that are reset": many(3000, lambda stream: refused(stream) + reset(stream)),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_clients_are_not_taken_for_a_flood(name: str) -> None:
    opened().feed(HONEST[name])


def test_what_is_refused_is_dropped_only_up_to_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_MAX_DROPPED", 1 << 20)
    guard = opened()
    guard.feed(HEAD + frame(DATA, 0, 1, message(b"", length=1 << 31)))
    with pytest.raises(Violation):
        guard.feed(frame(DATA, 0, 1, bytes(FULL)) * 65)


def test_pings_over_time_are_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, now = opened(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(100):
        guard.feed(frame(PING, 0, 0, bytes(8)) * 300)
        now += 0.5
