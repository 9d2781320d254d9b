"""Time as one process sees it."""

import random
import time
from datetime import UTC, timedelta
from itertools import islice

import pytest

from django_dbos import clock


@pytest.fixture
def without_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)


def test_now_is_in_utc() -> None:
    assert clock.now().tzinfo is UTC
    assert abs(clock.now().timestamp() - time.time()) < timedelta(seconds=1).total_seconds()


def test_monotonic_time_never_goes_back() -> None:
    moments = [clock.monotonic() for _ in range(1000)]
    assert moments == sorted(moments)


def test_jitter_is_a_tenth_either_way_and_not_always_the_same() -> None:
    delays = [clock.jittered(10) for _ in range(1000)]
    assert all(9 <= delay <= 11 for delay in delays)
    assert len(set(delays)) > 100
    assert min(delays) < 9.5 < 10.5 < max(delays)


@pytest.mark.usefixtures("without_jitter")
def test_a_back_off_grows_by_its_rate_up_to_its_longest_delay_and_has_no_end() -> None:
    assert list(islice(clock.backoff(1, 2, 10), 7)) == pytest.approx([1, 2, 4, 8, 10, 10, 10])
    *_, last = islice(clock.backoff(0.01, 2, 5), 100_000)
    assert last == pytest.approx(5)


@pytest.mark.usefixtures("without_jitter")
def test_a_rate_of_one_never_grows_and_a_first_delay_above_the_longest_is_cut() -> None:
    assert list(islice(clock.backoff(0.5, 1, 10), 3)) == pytest.approx([0.5, 0.5, 0.5])
    assert list(islice(clock.backoff(60, 2, 10), 2)) == pytest.approx([10, 10])


def test_the_delays_of_a_back_off_are_jittered() -> None:
    for wanted, delay in zip([1, 2, 4, 8, 8], clock.backoff(1, 2, 8), strict=False):
        assert wanted * 0.9 <= delay <= wanted * 1.1
    assert len({next(clock.backoff(1, 2, 8)) for _ in range(20)}) > 1
