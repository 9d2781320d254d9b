"""The benchmarks' application."""

from django.apps import AppConfig


class BenchmarksConfig(AppConfig):
    """Its models have no migrations: the tables are made by ``migrate --run-syncdb``."""

    name = "benchmarks"
    default_auto_field = "django.db.models.BigAutoField"
