"""The Django application: registration only. Nothing is started and no connection is opened here."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from .hub import provide_heart


class DBOSConfig(AppConfig):
    """Durable workflows."""

    name = "django_dbos"
    label = "dbos"
    verbose_name = _("Durable workflows")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Learn the workflows of every installed application, and who beats for a process that runs some itself."""
        # Imported here: the models must be ready.
        from . import checks  # noqa: F401 - registers them
        from .runtime.heart import start_heart

        provide_heart(start_heart)
        autodiscover_modules("workflows")
