"""Values that users hand in: each is refused at once, with what would be right."""

from typing import Any

import pytest

from django_dbos.exceptions import InvalidOption, InvalidWorkflowID
from django_dbos.validation import one_of, short_text, whole_number


@pytest.mark.parametrize("value", [1, 5, 2**31 - 1])
def test_a_whole_number_in_its_range_is_given_back(value: int) -> None:
    assert whole_number("limit", value, least=1) == value


def test_both_ends_of_a_range_are_in_it() -> None:
    assert [whole_number("n", value, least=-1, most=1) for value in (-1, 0, 1)] == [-1, 0, 1]


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.0, "1", None, True, False, [], float("nan")])
def test_any_other_number_is_refused_with_the_range(value: Any) -> None:
    with pytest.raises(InvalidOption, match=r"limit is a whole number from 1 to 2147483647, not ") as refusal:
        whole_number("limit", value, least=1)
    assert repr(value) in str(refusal.value)


@pytest.mark.parametrize("value", ["a", "x" * 255, " ", "žluťoučký", "a\nb"])
def test_a_short_text_is_given_back(value: str) -> None:
    assert short_text("A name", value) == value


@pytest.mark.parametrize("value", ["", "x" * 256, "a\x00b", None, 0, 7, b"a", ["a"]])
def test_any_other_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match=r"A name is a text of 1 to 255 characters, not "):
        short_text("A name", value)


def test_the_refusal_may_be_of_its_own_kind() -> None:
    with pytest.raises(InvalidWorkflowID):
        short_text("A workflow id", "", InvalidWorkflowID)


def test_a_refusal_does_not_repeat_a_value_without_end() -> None:
    for refuse in (lambda: short_text("A name", "x" * 10_000), lambda: whole_number("n", "x" * 10_000, least=1)):
        with pytest.raises(InvalidOption) as refusal:
            refuse()
        assert len(str(refusal.value)) < 500


def test_one_of_some_choices_is_given_back_and_anything_else_is_refused_with_them() -> None:
    assert one_of("policy", "reject", (None, "reject")) == "reject"
    with pytest.raises(InvalidOption, match="policy is None or 'reject', not 'join'"):
        one_of("policy", "join", (None, "reject"))
