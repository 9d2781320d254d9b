"""``testproject.database``: every form of ``DATABASE_URL`` that the demo and the suite accept."""

import pytest

from testproject.database import from_url


def test_postgresql() -> None:
    database = from_url("postgresql://ann:s%40crt@db.example:6432/shop%20one?sslmode=require&application_name=shop")
    assert database == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop one",
        "USER": "ann",
        "PASSWORD": "s@crt",
        "HOST": "db.example",
        "PORT": "6432",
        "OPTIONS": {"sslmode": "require", "application_name": "shop"},
    }


def test_postgresql_through_a_unix_socket() -> None:
    database = from_url("postgres://postgres:@/postgres?host=/run/pg&port=5433")
    assert (database["HOST"], database["PORT"], database["NAME"]) == ("/run/pg", "5433", "postgres")
    assert database["OPTIONS"] == {}


@pytest.mark.parametrize("host", ["[::1]", "%2Frun%2Fpg"])
def test_postgresql_hosts_in_brackets_and_quoted(host: str) -> None:
    assert from_url(f"postgresql://{host}/shop")["HOST"] in ("::1", "/run/pg")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///db.sqlite3", "db.sqlite3"),
        ("sqlite:////var/lib/shop/db.sqlite3", "/var/lib/shop/db.sqlite3"),
        ("sqlite:///:memory:", ":memory:"),
        ("sqlite://", ":memory:"),
    ],
)
def test_sqlite(url: str, name: str) -> None:
    database = from_url(url)
    assert database["NAME"] == name
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


@pytest.mark.parametrize("url", ["mysql://root@localhost/shop", "shop.sqlite3", ""])
def test_others_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL starts with"):
        from_url(url)
