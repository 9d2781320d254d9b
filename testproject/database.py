"""``DATABASE_URL`` -> one entry of Django's ``DATABASES``, with nothing but the standard library."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

POSTGRESQL_SCHEMES = frozenset({"postgres", "postgresql"})
POSTGRESQL_KEYS = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}


def from_url(url: str) -> dict[str, Any]:
    """
    The settings of the database at ``url``.

    ``postgresql://user:password@host:port/name?sslmode=require`` - any libpq option may follow the ``?``; so may
    ``host`` and ``port``, which is how the directory of a Unix socket is given. ``sqlite:///relative/path``,
    ``sqlite:////absolute/path``, ``sqlite:///:memory:``. Raises ``ValueError`` for any other scheme.
    """
    scheme = urlsplit(url).scheme
    if scheme in POSTGRESQL_SCHEMES:
        return _postgresql(url)
    if scheme == "sqlite":
        return sqlite(unquote(urlsplit(url).path).removeprefix("/"))
    raise ValueError(f"DATABASE_URL starts with postgresql:// or sqlite:///, not with {scheme or 'nothing'}://")


def sqlite(name: str) -> dict[str, Any]:
    """A SQLite file that several processes use at once: WAL, and write locks taken when a transaction begins."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name or ":memory:",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL",
        },
    }


def _postgresql(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    database: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": {},
    }
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key in POSTGRESQL_KEYS:
            database[POSTGRESQL_KEYS[key]] = value
        else:
            database["OPTIONS"][key] = value
    return database
