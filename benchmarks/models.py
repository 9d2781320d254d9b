"""The rows that transactions write, and that PostgreSQL is asked to write by itself."""

from django.db import models


class Item(models.Model):
    """A row of a user's own."""

    state = models.CharField(max_length=20, default="waiting", db_default="waiting")
    payload = models.TextField()

    def __str__(self) -> str:
        return self.payload
