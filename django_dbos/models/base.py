"""Where the system tables are read and written."""

from typing import TypeVar

from django.db import models

from ..conf import conf

_M = TypeVar("_M", bound=models.Model)


class SystemQuerySet(models.QuerySet[_M]):
    """Rows of the system database, wherever ``DBOS["DATABASE"]`` says that it is."""


class SystemManager(models.Manager[_M]):
    """Reads and writes on ``DBOS["DATABASE"]`` unless told otherwise with ``using()``."""

    def get_queryset(self) -> models.QuerySet[_M]:
        """See Manager.get_queryset()."""
        return super().get_queryset().using(self._db or conf.DATABASE)
