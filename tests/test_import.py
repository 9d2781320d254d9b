"""Importing the app starts no thread and opens no connection: web processes stay web processes."""

import pytest

from tests.support import run_python

#: A port where nothing listens, a directory that is not there: any attempt to connect would be an error.
NOWHERE = {
    "postgresql": {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere?connect_timeout=2"},
    "sqlite": {"DATABASE_URL": "", "DBOS_TEST_SQLITE": "/nonexistent/directory/nowhere"},
}

BEFORE_SETUP = """
import sys, threading
import django_dbos
assert dir(django_dbos)
assert "django_dbos.models" not in sys.modules, "import django_dbos loads models: AppRegistryNotReady for users"
assert threading.active_count() == 1, threading.enumerate()
"""

EVERYTHING = """
import importlib, pkgutil, threading
import django
from django.db.backends.signals import connection_created

opened = []
connection_created.connect(lambda connection, **kwargs: opened.append(connection), weak=False)

import django_dbos
django.setup()
for module in pkgutil.walk_packages(django_dbos.__path__, "django_dbos."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "opentelemetry":
            raise
for name in django_dbos._EXPORTS:
    getattr(django_dbos, name)

from django.core.checks import run_checks
# Without a database: newer Djangos ask SQLite whether it knows JSON.
assert not (found := run_checks(databases=[])), found

from django.db import connections
assert not opened, opened
assert all(c.connection is None for c in connections.all(initialized_only=True)), "a connection is open"
assert threading.active_count() == 1, threading.enumerate()
"""


def test_import_before_setup_loads_nothing() -> None:
    done = run_python("-c", BEFORE_SETUP, env={"DJANGO_SETTINGS_MODULE": ""})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("vendor", NOWHERE)
def test_import_opens_no_connection_and_starts_no_thread(vendor: str) -> None:
    done = run_python("-c", EVERYTHING, env={**NOWHERE[vendor], "DBOS_TEST_DATABASES": ""})
    assert done.returncode == 0, done.stderr
