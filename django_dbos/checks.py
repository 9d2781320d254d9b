"""System checks: each one function, one id, and a hint that says what to do."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError, connections

from .conf import Settings, conf


@register
def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """dbos.E001, dbos.E002, dbos.E003: the settings dict has the right shape, keys and database."""
    options = getattr(settings, "DBOS", {})
    if not isinstance(options, dict):
        return [Error("DBOS is not a dict.", hint='Write DBOS = {"CONCURRENCY": 16} in your settings.', id="dbos.E001")]
    messages: list[CheckMessage] = [
        Error(f"DBOS has no key {key!r}.", hint=_nearest(str(key)), id="dbos.E002")
        for key in options
        if key not in Settings.names()
    ]
    if conf.DATABASE not in settings.DATABASES:
        hint = f"Set DBOS['DATABASE'] to one of {', '.join(settings.DATABASES)}."
        messages.append(Error(f"DBOS['DATABASE'] names no database: {conf.DATABASE!r}.", hint=hint, id="dbos.E003"))
    return messages


def _nearest(key: str) -> str:
    close = get_close_matches(key.upper(), Settings.names(), n=1)
    return f"Did you mean {close[0]!r}?" if close else f"The keys are {', '.join(sorted(Settings.names()))}."


@register
def check_version(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """dbos.E006: the application version is None or a text that can be stored beside a workflow."""
    version: object = conf.APPLICATION_VERSION
    if version is None or (isinstance(version, str) and 1 <= len(version.strip()) <= len(version) <= 255):
        return []
    hint = 'Set it to None for no version, to a text of 1 to 255 characters, or to "auto" for a hash of the source.'
    return [Error(f"DBOS['APPLICATION_VERSION'] is {version!r:.300}.", hint=hint, id="dbos.E006")]


@register
def check_rangefilter(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """dbos.E004: the admin's date filters need django-admin-rangefilter."""
    if not apps.is_installed("django.contrib.admin") or apps.is_installed("rangefilter"):
        return []
    hint = "Add 'rangefilter' to INSTALLED_APPS; it is installed with django-dbos."
    return [Error("The admin of django_dbos needs the application 'rangefilter'.", hint=hint, id="dbos.E004")]


def _database_vendor() -> str:
    return str(connections[conf.DATABASE].vendor) if conf.DATABASE in settings.DATABASES else ""


@register
def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """dbos.W001: SQLite serves a site and a worker at a time only in WAL mode with immediate transactions."""
    if _database_vendor() != "sqlite":
        return []
    options = settings.DATABASES[conf.DATABASE].get("OPTIONS", {})
    is_wal = "journal_mode=wal" in str(options.get("init_command", "")).lower().replace(" ", "")
    if is_wal and str(options.get("transaction_mode", "")).upper() == "IMMEDIATE":
        return []
    hint = (
        'Set OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 20, '
        '"init_command": "PRAGMA journal_mode=WAL"} for this database.'
    )
    return [checks.Warning("SQLite is not in WAL mode with immediate transactions.", hint=hint, id="dbos.W001")]


@register
def check_vendor(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """dbos.E005: the system tables live on PostgreSQL or SQLite."""
    vendor = _database_vendor()
    if vendor in ("postgresql", "sqlite", ""):
        return []
    hint = "Point DBOS['DATABASE'] to the alias of a PostgreSQL or SQLite database."
    return [Error(f"django_dbos does not run on {vendor}.", hint=hint, id="dbos.E005")]


@register(Tags.database)
def check_migrated(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """dbos.W002: the system tables exist. A warning that ``migrate``, which runs the checks first, can do without."""
    if conf.DATABASE not in (databases or ()) or "migrate" in sys.argv[1:2]:
        return []
    try:
        missing = missing_tables(conf.DATABASE)
    except DatabaseError:
        return []  # an unreachable database is not an unmigrated one
    return [checks.Warning(missing, hint="Run: python manage.py migrate", id="dbos.W002")] if missing else []


def missing_tables(alias: str) -> str | None:
    """What is missing of the system tables, in one line that names the remedy; None if nothing is."""
    connection = connections[alias]
    was_open = connection.connection is not None
    tables = {model._meta.db_table for model in apps.get_app_config("dbos").get_models()}
    try:
        missing = tables - set(connection.introspection.table_names())
    finally:
        if not was_open:
            connection.close()
    if not missing:
        return None
    database = "" if alias == "default" else f" --database {alias}"
    return f"The tables of django_dbos are not in database {alias!r}: run python manage.py migrate{database}"
