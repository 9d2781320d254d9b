"""Workflows say whether somebody waits for them; heartbeats stay on their page."""

from typing import Any

from django.db import migrations, models

# A heartbeat changes no indexed column any more, so with room on the page PostgreSQL updates it in place (HOT).
_OFTEN_UPDATED = ("dbos_executor", "dbos_queue", "dbos_schedule")


def leave_room(apps: Any, schema_editor: Any) -> None:
    """Keep half of each page of the small, often updated tables free."""
    if schema_editor.connection.vendor == "postgresql":
        for table in _OFTEN_UPDATED:
            schema_editor.execute(f"ALTER TABLE {table} SET (fillfactor = 50)")


def take_room(apps: Any, schema_editor: Any) -> None:
    """Undo leave_room()."""
    if schema_editor.connection.vendor == "postgresql":
        for table in _OFTEN_UPDATED:
            schema_editor.execute(f"ALTER TABLE {table} RESET (fillfactor)")


class Migration(migrations.Migration):
    """See above."""

    dependencies = (("dbos", "0001_initial"),)

    operations = (
        migrations.RemoveIndex(model_name="executor", name="dbos_executor_silent"),
        migrations.AddField(
            model_name="workflow",
            name="is_awaited",
            field=models.BooleanField(db_default=False, default=False, verbose_name="awaited"),
        ),
        migrations.RunPython(leave_room, take_room),
    )
