"""System checks: each fires with its id and says what to do, and is silent when all is well."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.db import connection, connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.db.utils import ConnectionHandler
from django.test import modify_settings, override_settings

from django_dbos import checks
from django_dbos.conf import Settings
from tests.support import manage

WAL = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"}


def ours(messages: list[CheckMessage]) -> list[tuple[str, str, str]]:
    """(id, what is wrong, what to do) of our own messages."""
    return [(message.id or "", message.msg, message.hint or "") for message in messages if "dbos" in (message.id or "")]


def found(databases: list[str] | None = None) -> list[tuple[str, str, str]]:
    return ours(run_checks(databases=databases))


@pytest.fixture
def file_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Configures an alias "elsewhere": ``file_database(options)``, a SQLite file in which nothing is yet."""

    def configure(options: dict[str, Any]) -> None:
        name = str(tmp_path / "elsewhere.sqlite3")
        entry: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": options}
        entry = ConnectionHandler({"default": {**entry}})["default"].settings_dict
        connections["elsewhere"] = DatabaseWrapper(entry, "elsewhere")
        monkeypatch.setattr(settings, "DATABASES", {**settings.DATABASES, "elsewhere": entry})

    yield configure
    connections["elsewhere"].close()
    del connections["elsewhere"]


@pytest.mark.django_db
def test_all_is_well_with_the_settings_of_the_suite() -> None:
    assert found(["default"]) == []


@pytest.mark.parametrize("value", [5, "CONCURRENCY", ["CONCURRENCY", "DATABASE"], None, ("DATABASE",)])
def test_settings_that_are_no_dict_are_e001(value: Any) -> None:
    with override_settings(DBOS=value):
        ((check_id, message, hint),) = found()
    assert check_id == "dbos.E001"
    assert message == "DBOS is not a dict."
    assert 'DBOS = {"CONCURRENCY": 16}' in hint


@pytest.mark.parametrize(
    ("typo", "suggestion"),
    [
        ("CONCURENCY", "Did you mean 'CONCURRENCY'?"),
        ("concurrency", "Did you mean 'CONCURRENCY'?"),
        ("POLL_INTERVALL", "Did you mean 'POLL_INTERVAL'?"),
        ("HEARTBEAT_TIMOUT", "Did you mean 'HEARTBEAT_TIMEOUT'?"),
        ("DATABSE", "Did you mean 'DATABASE'?"),
    ],
)
def test_a_mistyped_key_is_e002_and_the_right_one_is_suggested(typo: str, suggestion: str) -> None:
    with override_settings(DBOS={typo: 1, "POLL_INTERVAL": 0.5}):
        assert found() == [("dbos.E002", f"DBOS has no key {typo!r}.", suggestion)]


@pytest.mark.parametrize("key", ["SOMETHING_ELSE_ALTOGETHER", 7])
def test_a_key_that_resembles_none_is_told_which_there_are(key: Any) -> None:
    with override_settings(DBOS={key: 1}):
        ((check_id, _, hint),) = found()
    assert check_id == "dbos.E002"
    assert all(name in hint for name in Settings.names())


def test_each_mistyped_key_is_told() -> None:
    with override_settings(DBOS={"POLL_INTERVALL": 1, "CONCURENCY": 1}):
        assert [message_id for message_id, _, _ in found()] == ["dbos.E002", "dbos.E002"]


def test_every_key_there_is_may_be_set() -> None:
    with override_settings(DBOS={name: getattr(Settings, name) for name in Settings.names()}):
        assert found() == []


def test_a_database_that_is_not_there_is_e003() -> None:
    with override_settings(DBOS={"DATABASE": "nowhere"}):
        ((check_id, message, hint),) = found(["default"])
    assert check_id == "dbos.E003"
    assert message == "DBOS['DATABASE'] names no database: 'nowhere'."
    assert "default" in hint
    assert "other" in hint


def test_an_admin_without_rangefilter_is_e004() -> None:
    with modify_settings(INSTALLED_APPS={"remove": "rangefilter"}):
        ((check_id, message, hint),) = found()
    assert check_id == "dbos.E004"
    assert "rangefilter" in message
    assert hint == "Add 'rangefilter' to INSTALLED_APPS; it is installed with django-dbos."


def test_without_the_admin_nobody_needs_rangefilter() -> None:
    with modify_settings(INSTALLED_APPS={"remove": ["rangefilter", "django.contrib.admin"]}):
        assert not apps.is_installed("rangefilter")
        assert checks.check_rangefilter(None) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transaction_mode": "IMMEDIATE"},
        {"init_command": "PRAGMA journal_mode=WAL"},
        {"transaction_mode": "DEFERRED", "init_command": "PRAGMA journal_mode=WAL"},
    ],
)
def test_sqlite_without_wal_or_immediate_transactions_is_w001(options: dict[str, Any], file_database: Any) -> None:
    file_database(options)
    with override_settings(DBOS={"DATABASE": "elsewhere"}):
        ((check_id, _, hint),) = found()
    assert check_id == "dbos.W001"
    assert '"transaction_mode": "IMMEDIATE"' in hint
    assert "PRAGMA journal_mode=WAL" in hint


@pytest.mark.parametrize(
    "options",
    [
        WAL,
        {"transaction_mode": "immediate", "init_command": "pragma journal_mode = wal"},
        {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA synchronous=NORMAL; PRAGMA journal_mode=WAL;"},
    ],
)
def test_sqlite_in_wal_mode_with_immediate_transactions_is_fine(options: dict[str, Any], file_database: Any) -> None:
    file_database(options)
    with override_settings(DBOS={"DATABASE": "elsewhere"}):
        assert found() == []


@pytest.mark.django_db
def test_an_unmigrated_database_is_w002(file_database: Any) -> None:
    file_database(WAL)
    with override_settings(DBOS={"DATABASE": "elsewhere"}):
        assert found(["default"]) == [], "nobody asked about that database"
        ((check_id, message, hint),) = found(["elsewhere"])
    assert check_id == "dbos.W002"
    assert "'elsewhere'" in message
    assert "migrate --database elsewhere" in message + hint


@pytest.mark.django_db(transaction=True)
def test_a_migrated_one_is_fine_and_one_table_less_is_not(file_database: Any) -> None:
    file_database(WAL)
    with override_settings(DBOS={"DATABASE": "elsewhere"}):
        call_command("migrate", "dbos", database="elsewhere", verbosity=0)
        assert found(["elsewhere"]) == []
        with connections["elsewhere"].cursor() as cursor:
            cursor.execute("DROP TABLE dbos_step")
        assert [check_id for check_id, _, _ in found(["elsewhere"])] == ["dbos.W002"]


@pytest.mark.django_db
def test_what_cannot_be_reached_is_not_taken_for_unmigrated(file_database: Any) -> None:
    file_database(WAL)
    connections["elsewhere"].settings_dict["NAME"] = "/nowhere/at/all.sqlite3"
    with override_settings(DBOS={"DATABASE": "elsewhere"}):
        assert checks.check_migrated(None, databases=["elsewhere"]) == []


@pytest.mark.django_db
def test_the_check_leaves_a_connection_as_it_found_it(file_database: Any) -> None:
    file_database(WAL)
    assert checks.missing_tables("default") is None
    with connection.cursor() as cursor:  # inside the transaction of a TestCase, which a close would have ended
        cursor.execute("SELECT 1")
    assert checks.missing_tables("elsewhere")
    assert connections["elsewhere"].connection is None


# ---- as a user sees them


def check_with(tmp_path: Path, lines: str, *arguments: str) -> tuple[int, str]:
    """``manage.py check`` with the settings of the suite and these lines below them."""
    (tmp_path / "their_settings.py").write_text(f"from tests.settings import *\n{lines}\n")
    env = {"PYTHONPATH": str(tmp_path), "DBOS_TEST_DATABASES": json.dumps({})}
    done = manage("check", *arguments, settings="their_settings", env=env)
    return done.returncode, done.stderr


def test_manage_check_prints_every_error_with_its_hint(tmp_path: Path) -> None:
    wrong = (
        "INSTALLED_APPS.remove('rangefilter')\n"
        "DATABASES['default'] = {'ENGINE': 'django.db.backends.dummy'}\n"
        "DBOS = {'POLL_INTERVALL': 1}\n"
    )
    code, said = check_with(tmp_path, wrong)
    assert code == 1
    for expected in (
        "(dbos.E002) DBOS has no key 'POLL_INTERVALL'.",
        "HINT: Did you mean 'POLL_INTERVAL'?",
        "(dbos.E004)",
        "HINT: Add 'rangefilter' to INSTALLED_APPS",
        "(dbos.E005) django_dbos does not run on unknown.",
        "HINT: Point DBOS['DATABASE'] to the alias of a PostgreSQL or SQLite database.",
    ):
        assert expected in said, said


def test_manage_check_of_an_empty_database_warns_with_the_command_to_run(tmp_path: Path) -> None:
    empty = (
        f"DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': {str(tmp_path / 'new')!r},"
        f" 'OPTIONS': {WAL!r}}}}}"
    )
    code, said = check_with(tmp_path, empty, "--database", "default")
    assert code == 0
    assert "(dbos.W002)" in said, said
    assert "run python manage.py migrate" in said
    assert "dbos.E" not in said


@pytest.mark.parametrize("version", [7, "", "  ", "x" * 256, b"7"])
def test_a_version_that_cannot_be_one_is_an_error(version: Any) -> None:
    with override_settings(DBOS={**settings.DBOS, "APPLICATION_VERSION": version}):
        messages = [message for message in ours(run_checks()) if message[0] == "dbos.E006"]
    assert len(messages) == 1
    assert '"auto"' in messages[0][2]


@pytest.mark.parametrize("version", [None, "7", "auto", "x" * 255])
def test_a_version_that_can_be_one_is_fine(version: Any) -> None:
    with override_settings(DBOS={**settings.DBOS, "APPLICATION_VERSION": version}):
        assert not [message for message in ours(run_checks()) if message[0] == "dbos.E006"]
