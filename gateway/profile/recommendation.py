"""Which values of model.toml serve a model best, by what was measured. Nothing here measures or reads anything."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.profile.point import Point

# Of a latency target, this share is for the model (the rest is for the response on its way); a request may wait for one
# batch, and runs in the next. A worker sizes its batches by the same rule (runtimes/worker/sizing.py).
_MODEL_SHARE, _BATCHES = 0.95, 2
# What a worker does for each batch besides running the model, in milliseconds: frames, arrays, answers. It decides
# nothing but the batch size of models that are faster than that.
_BATCH_COST_MS = 0.1
_WORK = f"with {_BATCH_COST_MS:g} ms for other work per batch"
# What one front handles at most, in requests per second (docs/performance.md). It needs a core for that, which workers
# then lack.
_FRONT_PER_S = 50_000
# The smallest batch that has this share of the highest throughput is chosen: a larger one makes requests wait.
_ENOUGH = 0.95
# Another thread or instance must give this many times the throughput. An instance is a further copy of the model.
_WORTHWHILE = 1.1
# Instances may use this share of the machine's memory.
_MEMORY_SHARE = 0.8
# A delay is this part of a batch's duration, and at least as long as clients need to ask again.
_DELAY_PART, _SHORTEST_DELAY_MS = 0.1, 0.5


class Setting(NamedTuple):
    """A value for a key of model.toml. reason: one sentence, without a full stop."""

    value: float
    reason: str


class Recommendation(NamedTuple):
    """settings: key of model.toml → value. point: what was measured with them. in_time: whether the target is met."""

    settings: Mapping[str, Setting]
    point: Point
    in_time: bool = True


def recommend(points: Sequence[Point], cores: int, memory_bytes: int, target_ms: float = 0.0) -> Recommendation | None:
    """Return the settings with the highest throughput within the target; None if no point has figures.

    cores, memory_bytes  what instances share
    target_ms            from a request's arrival to its answer; 0: no target
    """
    possible = [point for point in points if not point.failed and _fits(point, cores, memory_bytes)]
    if not possible:
        return None
    limit_ms = target_ms * _MODEL_SHARE / _BATCHES if target_ms else float("inf")
    in_time = [point for point in possible if point.p99_ms <= limit_ms]
    candidates = in_time or [min(possible, key=lambda point: point.p99_ms)]
    groups: dict[tuple[int, int], list[Point]] = {}
    for point in candidates:
        groups.setdefault((point.instances, point.threads), []).append(point)
    best = [_smallest_sufficient(group) for group in groups.values()]
    most = max(_usable_rate(point, cores) for point in best)
    chosen = min(
        (point for point in best if _usable_rate(point, cores) * _WORTHWHILE >= most),
        key=lambda point: (point.instances, point.threads),
    )
    group = groups[chosen.instances, chosen.threads]
    settings = {}
    missed = "" if in_time else _why_missed(chosen, target_ms)
    if chosen.rows:
        why = missed or _why_rows(chosen, group, possible, target_ms)
        settings["max_batch_size"] = Setting(chosen.rows, why)
    why = _why_threads(chosen, best if in_time else [], points)
    settings["threads"] = Setting(chosen.threads, why if chosen.rows or not missed else f"{missed}; {why}")
    why = _why_instances(chosen, best if in_time else [], points, cores, memory_bytes)
    settings["instances"] = Setting(chosen.instances, why)
    if chosen.rows:
        settings["queue_delay_ms"] = _delay(chosen, possible, target_ms)
    return Recommendation(settings, chosen, bool(in_time))


def _fits(point: Point, cores: int, memory_bytes: int) -> bool:
    if point.instances == 1:
        return True
    enough = not memory_bytes or point.peak_bytes * point.instances <= memory_bytes * _MEMORY_SHARE
    return enough and point.instances * point.threads <= cores


def _rate(point: Point) -> float:
    """Return the rows per second of a worker that always has a full batch."""
    return point.instances * point.units / (point.p50_ms + _BATCH_COST_MS) * 1e3


def _usable_rate(point: Point, cores: int) -> float:
    """Return the requests per second that a front can send to the workers if it shares the cores with them."""
    core_seconds = 1 / _FRONT_PER_S + point.instances * point.threads / _rate(point)
    return min(_rate(point), _FRONT_PER_S, cores / core_seconds)


def _smallest_sufficient(group: Sequence[Point]) -> Point:
    most = max(map(_rate, group))
    return min((point for point in group if _rate(point) >= _ENOUGH * most), key=lambda point: point.rows)


def _why_missed(shortest: Point, target_ms: float) -> str:
    what = _count(shortest.rows, "row") if shortest.rows else "one request"
    return (
        f"{target_ms:g} ms cannot be met: they leave {_ms(target_ms * _MODEL_SHARE / _BATCHES)} for a batch, because a "
        f"request may wait for one and run in the next, but the shortest p99 is {_ms(shortest.p99_ms)} ms, of {what}"
    )


def _why_rows(chosen: Point, group: Sequence[Point], possible: Sequence[Point], target_ms: float) -> str:
    verb = "takes" if chosen.rows == 1 else "take"
    took = f"{_count(chosen.rows, 'row')} {verb} {_ms(chosen.p50_ms)} ms (p99 {_ms(chosen.p99_ms)})"
    most = max(group, key=_rate)
    share = "the most" if most is chosen else f"{_rate(chosen) / _rate(most):.0%} of the most"
    if not target_ms:
        last = max(point.rows for point in possible) == chosen.rows and chosen.rows > 1
        return f"{took}, which is {share} rows/s{'; no larger batch was measured' if last else ''}"
    same = (chosen.instances, chosen.threads)
    slower = [point for point in possible if (point.instances, point.threads) == same and point not in group]
    larger = min((point.rows for point in slower if point.rows > chosen.rows), default=0)
    too_slow = f"; {larger} would exceed it" if larger and most.rows < larger else ""
    return f"{took}, which is {share} rows/s within {target_ms:g} ms for two batches and the response{too_slow}"


def _why_threads(chosen: Point, best: Sequence[Point], points: Sequence[Point]) -> str:
    """best: the best point of each configuration within the target; empty if there is none."""
    single = [point for point in points if point.instances == 1]
    numbers = sorted({point.threads for point in single})
    if numbers == [chosen.threads]:
        return f"only {chosen.threads} was measured"
    if not best:
        return f"the shortest p99 of one worker: {_shortest(single)}"
    others = sorted((point for point in best if point.instances == 1), key=lambda point: point.threads)
    late = [number for number in numbers if number not in {point.threads for point in others}]
    reasons = []
    if others:
        rates = ", ".join(f"{_rate(point):.0f} with {point.threads}" for point in others)
        reasons.append(f"{_unit(chosen)} of one worker by threads, {_WORK}: {rates}")
        if max(others, key=_rate).threads != chosen.threads:
            more = f"another one must give {_WORTHWHILE:g} times as many"
            reasons.append(more if chosen.instances == 1 else "several workers use the cores better")
    for number in late:
        ran = any(point.threads == number and not point.failed for point in single)
        reasons.append(f"with {number}, no batch of one worker {'is in time' if ran else 'succeeded'}")
    return "; ".join(reasons)


def _why_instances(chosen: Point, best: Sequence[Point], points: Sequence[Point], cores: int, memory_bytes: int) -> str:
    """best: as above."""
    measured = [point for point in points if point.instances > 1]
    if not measured:
        return f"measured with one instance only, on {_count(cores, 'core')}"
    ran = [point for point in measured if not point.failed]
    if not ran:
        return "no batch of several instances succeeded"
    fitting = [point for point in ran if _fits(point, cores, memory_bytes)]
    if not fitting:
        return f"several need more than {_MEMORY_SHARE:.0%} of the machine's memory"
    if not best:
        single = [point for point in points if point.instances == 1]
        return f"the shortest p99 of several: {_shortest(fitting)}; of one: {_shortest(single)}"
    several = [point for point in best if point.instances > 1]
    if not several:
        return f"no batch of several is in time: their shortest p99 is {_ms(min(point.p99_ms for point in fitting))} ms"
    rates = [_rate(point) for point in best if point.instances == 1]
    most = max(several, key=lambda point: _usable_rate(point, cores))
    each = f"{most.instances} workers with {_count(most.threads, 'thread')} each"
    if not rates:
        return f"{each} reach {_rate(most):.0f} {_unit(most)} {_WORK}, and no batch of one alone is in time"
    single_rate = max(rates)
    if chosen.instances == 1 and _usable_rate(most, cores) < _rate(most):
        front = f"the front needs the cores that {each} would use"
        return f"one worker serves {single_rate:.0f} {_unit(most)} {_WORK}; {front}"
    end = "" if chosen.instances > 1 else f", less than {_WORTHWHILE:g} times as many, and each is a copy of the model"
    return f"{each} reach {_rate(most):.0f} {_unit(most)} {_WORK}, and one {single_rate:.0f}{end}"


def _shortest(points: Sequence[Point]) -> str:
    """Return the shortest p99 by the number of threads."""
    found: dict[int, float] = {}
    for point in points:
        if not point.failed:
            found[point.threads] = min(point.p99_ms, found.get(point.threads, point.p99_ms))
    each = ", ".join(f"{_ms(ms)} ms with {_count(threads, 'thread')}" for threads, ms in sorted(found.items()))
    return each or "none succeeded"


def _delay(chosen: Point, possible: Sequence[Point], target_ms: float) -> Setting:
    """Return a delay if full batches are worth it, and the target leaves the time.

    Clients that wait for their answers before they ask again fall into two groups: one waits while the other runs. If
    half a batch takes nearly as long as a whole one, a short delay unites them.
    """
    rows, half = chosen.rows, chosen.rows // 2
    same = [each for each in possible if (each.instances, each.threads) == (chosen.instances, chosen.threads)]
    delay = round(max(chosen.p50_ms * _DELAY_PART, _SHORTEST_DELAY_MS), 1)
    left = target_ms * _MODEL_SHARE - _BATCHES * chosen.p99_ms
    times = rows / (chosen.p50_ms + delay) / (half / _duration(same, half)) if half else 0.0
    if times < _WORTHWHILE:
        return Setting(0, "requests that arrive while a batch runs form the next one; to wait longer gains nothing")
    gain = f"batches of {rows} instead of {half} rows give {times:.1f} times the rows/s"
    if not target_ms:
        return Setting(0, f"{gain}, but without a latency target it is unknown how long a request may wait for others")
    if left < delay:
        return Setting(0, f"{gain}, but {target_ms:g} ms leave no time to wait for them")
    return Setting(delay, f"{gain}, and {target_ms:g} ms leave {_ms(left)} to wait for them")


def _duration(points: Sequence[Point], rows: int) -> float:
    """Return the milliseconds of a batch of this size, estimated between the sizes that were measured."""
    below = max((each for each in points if each.rows <= rows), key=lambda each: each.rows, default=None)
    above = min((each for each in points if each.rows >= rows), key=lambda each: each.rows)
    if below is None or below.rows == above.rows:
        return above.p50_ms
    part = (rows - below.rows) / (above.rows - below.rows)
    return below.p50_ms + part * (above.p50_ms - below.p50_ms)


def _unit(point: Point) -> str:
    return "rows/s" if point.rows else "requests/s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ms(value: float) -> str:
    return f"{value:.3g}"
