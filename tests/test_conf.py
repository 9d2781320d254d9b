"""The settings dict: defaults, and values that are read when they are asked for."""

from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from django_dbos.conf import Settings, conf

DEFAULTS = {
    "DATABASE": "default",
    "APPLICATION_NAME": "",
    "APPLICATION_VERSION": None,
    "EXECUTOR_ID": None,
    "GROUPED_JOURNAL": True,
    "SERIALIZER": "json",
    "CONCURRENCY": 16,
    "POLL_INTERVAL": 1.0,
    "HEARTBEAT_INTERVAL": 5.0,
    "HEARTBEAT_TIMEOUT": 15.0,
    "EXECUTOR_RETENTION": 86400.0,
    "RETENTION": None,
    "LISTEN_DSN": None,
}


def values() -> dict[str, Any]:
    return {name: getattr(conf, name) for name in Settings.names()}


@pytest.mark.parametrize("empty", [{}, None])
def test_without_settings_there_are_defaults(empty: Any) -> None:
    with override_settings(DBOS=empty):
        assert values() == DEFAULTS


def test_a_project_need_not_have_the_dict_at_all() -> None:
    with override_settings():
        del settings.DBOS
        assert values() == DEFAULTS


def test_a_value_is_read_when_it_is_asked_for_and_the_others_keep_their_defaults() -> None:
    with override_settings(DBOS={"CONCURRENCY": 3}):
        assert conf.CONCURRENCY == 3
        settings.DBOS["CONCURRENCY"] = 4
        assert conf.CONCURRENCY == 4
        assert {**values(), "CONCURRENCY": 16} == DEFAULTS
    with override_settings(DBOS={}):
        assert conf.CONCURRENCY == 16


@pytest.mark.parametrize("value", [None, 0, "", False])
def test_a_value_that_is_nothing_counts_as_well(value: Any) -> None:
    with override_settings(DBOS={"CONCURRENCY": value}):
        assert conf.CONCURRENCY is value


def test_a_name_that_is_none_of_ours_is_no_setting_even_if_the_dict_has_it() -> None:
    with override_settings(DBOS={"names": "overridden", "anything": 1}):
        assert conf.names() == frozenset(DEFAULTS)
        with pytest.raises(AttributeError, match="anything"):
            _ = conf.anything
    with override_settings(DBOS={}), pytest.raises(AttributeError, match="NO_SUCH_KEY"):
        _ = conf.NO_SUCH_KEY


@pytest.mark.parametrize("value", [5, ["CONCURRENCY"], "CONCURRENCY"])
def test_what_is_no_dict_is_left_to_the_system_check(value: Any) -> None:
    with override_settings(DBOS=value):
        assert values() == DEFAULTS
