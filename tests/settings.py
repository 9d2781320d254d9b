"""
Settings of the suite, and of the worker processes that it starts.

Environment:

``DATABASE_URL``
    A PostgreSQL server; empty or missing: SQLite files.
``DBOS_TEST_SQLITE``
    The SQLite files' path without its ending. By default it is new for each process, so that runs go side by side.
``DBOS_TEST_DATABASES``
    ``{"alias": "name"}`` as JSON: the databases to use as they are (``tests.support`` tells workers this way).
"""

import json
import os
import sys
import tempfile
from typing import Any

from testproject.database import from_url

SQLITE = os.environ.get("DBOS_TEST_SQLITE") or os.path.join(tempfile.gettempdir(), f"django-dbos-{os.getpid()}")


def database(suffix: str) -> dict[str, Any]:
    """The database of one alias; ``suffix`` tells the aliases apart."""
    url = os.environ.get("DATABASE_URL")
    if url and not url.startswith("sqlite:"):
        settings = from_url(url)
        settings["TEST"] = {"NAME": f"test_{settings['NAME']}{suffix}"}
        settings["NAME"] += suffix
        return settings
    settings = from_url(f"sqlite:///{SQLITE}{suffix}.sqlite3")
    settings["TEST"] = {"NAME": f"{SQLITE}{suffix}-test.sqlite3"}
    return settings


DATABASES = {"default": database(""), "other": database("_other")}
for alias, name in json.loads(os.environ.get("DBOS_TEST_DATABASES") or "{}").items():
    DATABASES[alias]["NAME"] = name

SECRET_KEY = "only-for-tests"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin",
    "rangefilter",
    "django_dbos",
    "tests",
]

if "mypy" in sys.modules:
    # Types: the plugin knows the models of installed applications only. The suite's own workers shall not fire the
    # shop's schedule; the shop is tested under its own settings, see test_demo.
    INSTALLED_APPS += ["testproject.shop", "benchmarks"]
    SHOP_PAYMENT_URL = ""

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DBOS: dict[str, Any] = {
    "POLL_INTERVAL": 0.05,
    "HEARTBEAT_INTERVAL": 0.2,
    "HEARTBEAT_TIMEOUT": 1.0,
}
