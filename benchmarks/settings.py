"""Django's settings for the benchmarks: the defaults, on the database that the runner has made."""

import os

from testproject.database import from_url

SECRET_KEY = "only-for-benchmarks"
DEBUG = False
USE_TZ = True
DATABASES = {"default": {**from_url(os.environ.get("BENCHMARKS_DATABASE_URL", "sqlite:///")), "CONN_MAX_AGE": None}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_dbos", "benchmarks"]
