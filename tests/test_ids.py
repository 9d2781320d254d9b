"""Ids: UUIDs of version 7, which sort by the time they were made."""

import time
import uuid

import pytest

from django_dbos.ids import uuid7, uuid7s


def test_an_id_is_a_uuid_of_version_7_as_text() -> None:
    for text in [uuid7() for _ in range(1000)]:
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert len(text) == 36
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122


def test_it_begins_with_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(uuid7()).int >> 80
    assert before <= made <= time.time_ns() // 1_000_000


@pytest.mark.parametrize("step", [300, 1_000, 999_999, 1_000_000, 60_000_000_000])
def test_ids_sort_by_the_time_they_were_made(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000_000_000_000

    def later() -> int:
        nonlocal now
        now += step
        return now

    monkeypatch.setattr(time, "time_ns", later)
    ids = [uuid7() for _ in range(2000)]
    assert ids == sorted(ids)


def test_a_hundred_thousand_are_all_different_even_if_time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({uuid7() for _ in range(100_000)}) == 100_000
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    assert len({uuid7() for _ in range(100_000)}) == 100_000


def test_version_and_variant_hold_at_the_end_of_each_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    for rest in (0, 1, 499_999, 999_999):
        monkeypatch.setattr(time, "time_ns", lambda rest=rest: 1_800_000_000_000_000_000 + rest)
        parsed = uuid.UUID(uuid7())
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert parsed.int >> 80 == 1_800_000_000_000


def test_many_at_a_time_are_ids_like_any_other_and_ascend() -> None:
    before = uuid7()
    ids = uuid7s(20_000)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert before < ids[0]
    for text in ids[::1000]:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
    assert uuid7s(0) == []
